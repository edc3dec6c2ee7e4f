//! tidemark-runtime
