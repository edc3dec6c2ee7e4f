//! Commits, progress rows, states and gauges. I/O.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tidemark_crds::ledger::{SinkState, TableState};

use crate::consume::Event;
use crate::group::lock;
use crate::offsets::Applied;
use crate::progress::Wrote;
use crate::session::{Lane, Session};

/// How long a dead letter takes at most from its topic to here: two rows of one record have one letter.
const HEARING: Duration = Duration::from_secs(10);

impl Lane {
    /// What the table does, with what the writer met.
    fn state(&self) -> SinkState {
        let mut state = self.table.state();
        if let Some(failure) = &self.failure
            && state.state != TableState::Stopped
        {
            state.state = failure.state;
            state.reason.clone_from(&failure.reason);
            state.error_class.clone_from(&failure.class);
            state.message.clone_from(&failure.message);
        }
        state
    }
}

impl Session {
    pub(super) fn commit(&mut self, mode: CommitMode) {
        if self.consumer.context().commit_failed.swap(false, Ordering::AcqRel) {
            self.around.metrics.commit_failures.inc();
            let again = self.offsets.all().filter_map(|(p, applied)| Some((p, applied.next?))).collect();
            self.offsets.put_back(again);
        }
        let offsets = self.offsets.take_committable();
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for ((at, partition), next) in &offsets {
            let topic = &self.lanes[*at].table.route.topic;
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
        }
        if let Err(error) = self.consumer.commit(&list, mode) {
            tracing::warn!(%error, "offsets cannot be committed yet");
            self.around.metrics.commit_failures.inc();
            self.offsets.put_back(offsets);
        }
    }

    /// How far the partitions are, with the letters that are open.
    fn progress_rows(&self) -> Vec<(String, i32, Applied)> {
        let known = |(partition, applied): &((usize, i32), Applied)| {
            self.recorded.contains(partition) && applied.next.is_some()
        };
        let row = |((at, partition), applied): ((usize, i32), Applied)| {
            let lane = &self.lanes[at];
            let (dead, dead_at) = lane.letters.count(partition, self.board.epoch, lane.table.barrier());
            let dying: u64 = (lane.dying.iter())
                .filter(|dying| dying.partition == partition && dying.since.elapsed() < HEARING)
                .map(|dying| dying.dead)
                .sum();
            let (dead, dead_at) =
                if dying > dead { (dying, dead_at.max(applied.dead_at)) } else { (dead, dead_at) };
            (lane.label.table.clone(), partition, Applied { dead, dead_at, ..applied })
        };
        self.offsets.all().filter(known).map(row).collect()
    }

    /// Counts marks of Kafka's own behind the last record of a partition as applied, once all its records are.
    fn pass_marks(&mut self) {
        let Ok(positions) = self.consumer.position() else {
            return;
        };
        for element in positions.elements() {
            let (Offset::Offset(position), Some(at)) = (element.offset(), self.router.table(element.topic()))
            else {
                continue;
            };
            let lane = &self.lanes[at];
            let partition = (at, element.partition());
            let Some(part) = self.router.get(partition).filter(|_| !lane.paused && !lane.table.waits())
            else {
                continue;
            };
            if part.passed_marks(position) && self.offsets.next(partition) == Some(part.next) {
                part.next = position;
                self.offsets.reached(partition, position);
                let place = (element.topic().to_owned(), element.partition());
                lock(&self.consumer.context().applied).insert(place, position);
            }
        }
    }

    /// Writes progress rows, states and gauges.
    pub(super) fn report(&mut self) {
        self.pass_marks();
        for lane in &self.lanes {
            let metrics = &self.around.metrics;
            let bytes = lane.table.memory() + lane.in_flight.unwrap_or(0);
            metrics.queued_bytes.get_or_create(&lane.label).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            let state = lane.state();
            let is = |wanted: TableState| i64::from(state.state == wanted);
            metrics.held.get_or_create(&lane.label).set(is(TableState::Held));
            metrics.stopped.get_or_create(&lane.label).set(is(TableState::Stopped));
            metrics.doubt.get_or_create(&lane.label).set(i64::from(!state.doubt.is_empty()));
            self.around.states.set(&lane.label.table, state);
        }
        if self.report_task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (progress, states, rows) =
            (self.around.progress.clone(), self.around.states.clone(), self.progress_rows());
        let (runtime, events) = (self.around.runtime.clone(), self.sender.clone());
        let task = async move {
            // A doubt is noted before the offsets behind what is gone are: else it would end with this process.
            if let Err(error) = states.write(false).await {
                tracing::debug!(%error, "states cannot be written yet, and so progress is not");
                return;
            }
            match progress.write(&rows).await {
                Ok(Wrote::SetBack(at)) => {
                    tracing::error!(at, "the tables were set back: reading begins again where they are");
                    let _ = events.send(Event::SetBack);
                }
                Ok(Wrote::Anew) => {
                    tracing::info!("clickhouse was started anew: reading begins again where its tables are");
                    let _ = events.send(Event::SetBack);
                }
                Ok(Wrote::Done | Wrote::Behind) => {}
                Err(error) => tracing::debug!(%error, "progress cannot be written yet"),
            }
        };
        self.report_task = Some(self.tasks.spawn_on(task, &runtime));
    }

    /// Writes the last progress rows, so that nobody waits for those of the partitions' next owners.
    pub(super) fn last_report(&self) {
        let rows = self.progress_rows();
        for lane in &self.lanes {
            self.around.states.set(&lane.label.table, lane.state());
        }
        let write = async {
            self.around.states.write(false).await?;
            self.around.progress.write(&rows).await
        };
        match self.around.runtime.block_on(write) {
            Ok(Wrote::Done) => {}
            Ok(Wrote::Behind | Wrote::SetBack(_) | Wrote::Anew) => {
                tracing::warn!("the tables may have less than was applied: the last progress is not written");
            }
            Err(error) => tracing::warn!(%error, "the last progress cannot be written"),
        }
    }
}
