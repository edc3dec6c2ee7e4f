//! tidemark-crds
