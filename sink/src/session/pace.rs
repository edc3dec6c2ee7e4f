//! When batches go out, and when reading stands still. I/O through the session alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;

use crate::batch::Batch;
use crate::config;
use crate::consume::{Event, now_ms};
use crate::limits::{FlushCause, Moment, due};
use crate::memory::largest;
use crate::metrics::CauseLabel;
use crate::session::{INPUT_CHECK, SECOND, Session};
use crate::write::Task;
use tidemark_runtime::kafka::Connection;
use tokio::sync::watch;

/// How long reading may stand still for a full table before that table alone is paused.
const STALL: Duration = Duration::from_secs(1);

impl Session {
    /// Does what time asks for; returns whether the configuration or the secrets changed.
    pub(super) fn house_keeping(&mut self, now: Instant) -> bool {
        self.clock.now = now;
        self.around.readiness.beat();
        self.budget.refill(now - self.clock.refilled);
        self.clock.refilled = now;
        self.flush(now, false);
        if now - self.clock.committed >= SECOND {
            self.clock.committed = now;
            self.commit(CommitMode::Async);
        }
        if now - self.clock.reported >= SECOND {
            self.clock.reported = now;
            self.report();
            self.relax();
            for at in 0..self.lanes.len() {
                if !self.lanes[at].paused {
                    self.go_back(at);
                }
                if !self.lanes[at].active {
                    self.lanes[at].table.shrink();
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
        if now - self.clock.checked < INPUT_CHECK {
            return false;
        }
        self.clock.checked = now;
        // A file that is half written, or of another version, leaves the last good one running.
        config::load(&self.around.config_file).is_ok_and(|config| config != *self.around.config)
            || Connection::read(&self.around.config.kafka)
                .is_ok_and(|connection| connection != self.connection)
    }

    /// Bytes of rows in memory.
    fn used(&self) -> usize {
        self.active
            .iter()
            .map(|at| self.lanes[*at].table.memory() + self.lanes[*at].in_flight.unwrap_or(0))
            .sum()
    }

    /// Sends what is due, oldest first, as far as the budget goes; the largest first where memory is short.
    pub(super) fn flush(&mut self, now: Instant, drain: bool) {
        let short = self.used() > self.memory.short();
        let mut order: Vec<usize> =
            self.active.iter().copied().filter(|at| self.lanes[*at].in_flight.is_none()).collect();
        if short {
            order.sort_by_key(|at| std::cmp::Reverse(self.lanes[*at].table.memory()));
        } else {
            order.sort_by_key(|at| self.lanes[*at].table.waiting_since());
        }
        let (limits, idle) = (self.limits, self.clock.idle);
        for at in order {
            let lane = &mut self.lanes[at];
            if !lane.table.has_batch() {
                lane.active = false;
                self.active.remove(&at);
                continue;
            }
            let due_now = |rows, bytes, first: Instant| {
                let age = now.saturating_duration_since(first);
                due(&limits, rows, bytes, Moment { age, caught_up: idle >= first, short, drain })
            };
            if !drain && !lane.table.is_due(due_now) {
                continue;
            }
            if !drain && !self.budget.take() {
                break;
            }
            if let Some((batch, cause)) = self.lanes[at].table.next_batch(due_now) {
                self.send(at, batch, cause);
            }
        }
    }

    fn send(&mut self, at: usize, batch: Batch, cause: FlushCause) {
        let lane = &mut self.lanes[at];
        lane.in_flight = Some(batch.bytes());
        let metrics = &self.around.metrics;
        let cause = CauseLabel { table: lane.label.table.clone(), cause: cause.as_str() };
        metrics.batches.get_or_create(&cause).inc();
        let freshness = metrics.freshness.get_or_create(&lane.label).clone();
        let newest = Arc::clone(lane.table.history().newest().unwrap_or(batch.plan()));
        let plans = lane.newest.get_or_insert_with(|| watch::Sender::new(Arc::clone(&newest)));
        plans.send_replace(newest);
        let newest = plans.subscribe();
        let topic = lane.table.route.topic.clone();
        if batch.doubt.is_some() {
            self.around.states.set(&lane.label.table, lane.table.state());
        }
        let task = Task { table: at, topic, newest, events: self.sender.clone(), known: None };
        let writer = self.around.writer.clone();
        let runtime = self.around.runtime.clone();
        self.tasks.spawn_on(
            async move {
                let written = Box::pin(writer.write(batch, &task)).await;
                let now = now_ms();
                written
                    .batch
                    .commit_times()
                    .for_each(|committed_at| freshness.observe_ms(now - committed_at));
                let _ = task.events.send(Event::Written(Box::new(written)));
            },
            &runtime,
        );
    }

    /// Whether reading must stand still until something is acknowledged; pauses tables when that lasts.
    pub(super) fn must_wait(&mut self) -> bool {
        let used = self.used();
        let over = used > self.memory.budget;
        let full = |at: &usize| {
            let lane = &self.lanes[*at];
            let (rows, bytes) = lane.table.filling();
            lane.in_flight.is_some()
                && !lane.blocked
                && (rows >= self.limits.rows || bytes >= self.limits.bytes)
        };
        let full: Vec<usize> = self.active.iter().copied().filter(full).collect();
        let read_on = self.active.iter().any(|at| !self.lanes[*at].blocked);
        if full.is_empty() && !(over && read_on) {
            self.full = false;
            self.stalled = None;
            return false;
        }
        if self.stalled.get_or_insert_with(Instant::now).elapsed() < STALL {
            return true;
        }
        self.stalled = None;
        let sizes = self
            .active
            .iter()
            .filter(|at| !self.lanes[**at].blocked)
            .map(|at| (*at, self.lanes[*at].table.memory() + self.lanes[*at].in_flight.unwrap_or(0)));
        let mut blocked = full;
        if over {
            blocked.extend(largest(sizes.collect(), used, self.memory.relaxed()));
        }
        for at in blocked {
            self.lanes[at].blocked = true;
            self.steer(at);
        }
        false
    }

    /// Reads tables on that were paused for want of memory, once there is room.
    pub(super) fn relax(&mut self) {
        let room = self.used() <= self.memory.relaxed();
        for at in 0..self.lanes.len() {
            let lane = &self.lanes[at];
            if lane.blocked && (room || !lane.table.has_batch() && lane.in_flight.is_none()) {
                self.lanes[at].blocked = false;
                self.steer(at);
            }
        }
    }
}
