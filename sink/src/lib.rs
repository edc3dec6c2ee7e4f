//! tidemark-sink
