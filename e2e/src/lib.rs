//! tidemark-e2e
