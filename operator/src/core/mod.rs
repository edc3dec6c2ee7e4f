//! What the operator decides, and how: functions of values. Nothing here sees a client, a clock, a runtime or the environment.
//!
//! `facts` are what was seen, [`gate`] says what may be done about them, [`desired`] what should be
//! there, [`cdc`] where log and tables are, [`plan`] orders the
//! steps of a wave, [`judge`] and [`status`] say how it is, [`pace`] when to look again.

pub mod admission;
pub mod assume;
pub mod blind;
pub mod cdc;
pub mod concerns;
pub mod cost;
pub mod credentials;
pub mod dashboards;
pub mod desired;
pub mod doctor;
pub mod effect;
pub mod facts;
pub mod finalize;
pub mod foresee;
pub mod freshness;
pub mod gate;
pub mod judge;
pub mod ledger;
pub mod pace;
pub mod plan;
pub mod position;
pub mod problem;
pub mod rest;
pub mod restart;
pub mod retention;
pub mod rollout;
pub mod statement;
pub mod status;
pub mod step;
pub mod table_status;
pub mod unreadable;
pub mod validate;
pub mod verified;
