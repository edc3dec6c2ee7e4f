//! PostgreSQL: a connection for one look or one statement, the catalogues, what is done to publication and slot. I/O.

pub mod act;
pub mod client;
pub mod look;
