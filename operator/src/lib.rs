//! tidemark-operator
