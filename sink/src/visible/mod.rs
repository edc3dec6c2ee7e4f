//! Read your writes: whether everything that was committed up to a position of the source's log can be read in ClickHouse.
//!
//! One replica, the surveyor, and any that is asked, finds pairs of a position and of ends of the tables' partitions, of which this holds: the
//! records of all commits up to the position lie below the ends. It takes three things to know that, since Kafka keeps no
//! order between partitions. A mark that is like no other is set in the source's log at `W`, and comes out of the
//! connector: so the connector reads that server's log. Connect's committed position, which was below `W` before, is at
//! or above it: Connect commits the position of a record once every record that was sent before it is acknowledged by its
//! broker, in the order of sending, and the connector sends commits in the order of the log. Then the ends are read. The
//! position of the slot would not do: Debezium confirms there what it has handed over, acknowledged or not.
//!
//! The pairs go to a table in ClickHouse, the progress of all partitions is in another one: any replica, and a view, can
//! say of a table whether its partitions have applied what lies below the ends. A pair is of one epoch and of one start of
//! one server; with another of either it is void. A table that is read anew, is in doubt or has dead letters shows less
//! than its partitions have applied, and is never said to be complete.

mod delivered;
mod demand;
mod facts;
mod http;
mod lsn;
mod question;
mod survey;
mod verdict;

pub use demand::Demand;
pub(crate) use facts::Bookkeeping;
pub use http::{Desk, routes};
pub use lsn::Lsn;
pub use question::Asker;
pub use survey::{Surveyor, SurveyorContext};
pub use verdict::{Claim, Read, TableFacts, Verdict};
