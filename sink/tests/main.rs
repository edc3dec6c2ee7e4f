//! Tests of the sink that need no server.

mod corpus;
