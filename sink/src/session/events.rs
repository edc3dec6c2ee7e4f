//! What tasks and threads say, applied to the tables. I/O through the session alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer;
use tidemark_crds::ledger::TableState;

use crate::board::Board;
use crate::consume::{Event, Failure, Written};
use crate::group::lock;
use crate::letters::Notice;
use crate::session::{Dying, Session};
use crate::state::Earlier;

impl Session {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Written(written) => self.on_written(*written),
            Event::Failed(at, failure) => self.on_failed(at, *failure),
            Event::Board(board) => self.on_board(&board),
            Event::Looked => self.on_looked(),
            Event::Located(located) => self.on_located(located),
            Event::Earlier(earlier) => self.on_earlier(earlier),
            Event::Letter(notice) => self.on_letter(&notice),
            Event::Start(partition, next) => self.offsets.start(partition, next),
            Event::SetBack => self.set_back = true,
            Event::Firsts(firsts) => self.on_firsts(firsts),
            Event::Heartbeat(instant, ends) => {
                let mut lag: BTreeMap<usize, i64> = BTreeMap::new();
                for (partition, end) in ends {
                    self.offsets.heartbeat(partition, instant, end);
                    let next = self.offsets.next(partition);
                    *lag.entry(partition.0).or_default() += next.map_or(0, |next| (end - next).max(0));
                }
                for (at, records) in lag {
                    self.around.metrics.lag.get_or_create(&self.lanes[at].label).set(records);
                }
            }
        }
    }

    fn on_written(&mut self, written: Written) {
        let Written { table: at, batch, late, position } = written;
        let lane = &mut self.lanes[at];
        lane.in_flight = None;
        lane.failure = None;
        for (number, range) in batch.offsets() {
            let mut range = *range;
            range.dead += late.get(number).copied().unwrap_or(0);
            let partition = (at, *number);
            if range.dead > 0 {
                let offsets = self.offsets.next(partition).unwrap_or(0)..range.next;
                let since = Instant::now();
                lane.dying.push(Dying { partition: *number, offsets, dead: range.dead, since });
            }
            self.offsets.apply(partition, &range);
            if self.offsets.has(partition) {
                let topic = lane.table.route.topic.clone();
                lock(&self.consumer.context().applied).insert((topic, *number), range.next);
            }
        }
        let dead = late.values().sum();
        if dead > 0 {
            lane.table.count_late(dead, position);
        }
        lane.table.give_back(batch);
        if lane.table.waits() && !lane.paused {
            self.on_hold(at);
        }
        self.relax();
        self.flush(Instant::now(), false);
    }

    fn on_failed(&mut self, at: usize, failure: Failure) {
        if failure.backpressure {
            self.budget.halve();
        }
        let lane = &mut self.lanes[at];
        if failure.state == TableState::Stopped
            && lane.failure.as_ref().is_none_or(|before| before.state != TableState::Stopped)
        {
            tracing::error!(
                table = lane.label.table,
                error = failure.message,
                "the server refuses all rows: the table stops until the cause is mended, and is tried again now and then"
            );
        }
        lane.failure = Some(failure);
    }

    /// A record of an epoch that the ledger has not after all stops its table.
    fn on_looked(&mut self) {
        for at in 0..self.lanes.len() {
            if self.lanes[at].table.looked() {
                self.on_hold(at);
            }
        }
    }

    fn on_board(&mut self, board: &Arc<Board>) {
        let now = Instant::now();
        let began = self.board.epoch != board.epoch;
        self.board = Arc::clone(board);
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if began {
                lane.table.use_epoch(board.epoch);
                lane.table.resume(now);
            }
            let name = lane.label.table.clone();
            if let Some(horizon) = board.horizons.get(&name) {
                lane.table.pass_below(*horizon);
            }
            if let Some(read) = board.reads.get(&name)
                && lane.table.hear(read, now)
            {
                tracing::info!(table = name, "the table was read again: it goes on");
            }
            if let Some(history) = board.histories.get(&name)
                && !Arc::ptr_eq(history, lane.table.history())
            {
                let usable = history.usable();
                if usable != lane.table.history().usable() {
                    tracing::info!(table = name, layout = usable, "using the layouts of the ledger");
                }
                if let Some(trouble) = history.trouble() {
                    tracing::error!(table = name, trouble, "a layout cannot be used");
                }
                if lane.table.is_stopped() && usable > lane.stopped_under {
                    lane.table.restart();
                }
                lane.table.use_history(Arc::clone(history), now);
                if let Some((plans, plan)) = lane.newest.as_ref().zip(history.newest()) {
                    plans.send_replace(Arc::clone(plan));
                }
            }
            if lane.table.has_batch() && !lane.active {
                lane.active = true;
                self.active.insert(at);
            }
            self.steer(at);
        }
        self.show_missing_layouts();
        if !std::mem::replace(&mut self.heard, true) {
            self.find_all_beginnings();
        }
    }

    fn on_earlier(&mut self, earlier: Vec<Earlier>) {
        for Earlier { table, stopped_under, doubt } in earlier {
            let Some(at) = self.lanes.iter().position(|lane| lane.label.table == table) else {
                continue;
            };
            let lane = &mut self.lanes[at];
            if let Some(doubt) = doubt {
                lane.table.remember(doubt);
            }
            if let Some(layout) = stopped_under {
                lane.table.stop();
                lane.stopped_under = lane.stopped_under.max(layout);
            }
            self.steer(at);
        }
    }

    fn on_letter(&mut self, notice: &Notice) {
        let Some(at) = self.router.table(&notice.topic) else {
            return;
        };
        let lane = &mut self.lanes[at];
        let resolved = notice.resolved && !lane.letters.is_empty();
        lane.letters.take(notice);
        let letters = &lane.letters;
        lane.dying.retain(|dying| letters.heard(dying.partition, &dying.offsets) < dying.dead);
        if !notice.resolved {
            // A row from before it is not one from which values may be taken.
            lane.table.count_late(0, notice.at);
        }
        if resolved && lane.letters.is_empty() && lane.table.is_stopped() {
            tracing::info!(table = lane.label.table, "all dead letters are dealt with: the table goes on");
            lane.table.restart();
            self.steer(at);
        }
    }

    pub(super) fn show_missing_layouts(&self) {
        let missing: Vec<&str> = self
            .lanes
            .iter()
            .filter(|lane| lane.table.history().is_empty())
            .map(|lane| lane.label.table.as_str())
            .collect();
        // One table that waits keeps no other from being served: its own state says so.
        if missing.len() < self.lanes.len() {
            self.around.readiness.open("tables");
        } else {
            let why = format!("the ledger has no layout yet of {}", missing.join(", "));
            self.around.readiness.close("tables", why);
        }
    }
}
