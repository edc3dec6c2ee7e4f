//! Partitions that come and go, and where they are read. I/O.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_crds::history::Position;

use crate::assignment::{Located, Wanted, locate};
use crate::consume::Event;
use crate::group::lock;
use crate::offsets::Partition;
use crate::progress::Recorded;
use crate::session::Session;

impl Session {
    pub(super) fn on_rebalance(&mut self) {
        let changes = std::mem::take(&mut *lock(&self.consumer.context().changes));
        let mut wanted = Vec::new();
        for (assigned, partitions) in changes {
            for (topic, number) in &partitions {
                let Some(at) = self.router.table(topic) else {
                    continue;
                };
                let partition = (at, *number);
                if assigned {
                    let generation = self.router.assign(partition);
                    self.offsets.assign(partition, None);
                    wanted.retain(|wanted: &Wanted| wanted.partition != partition);
                    wanted.push(self.wanted(partition, generation, None));
                } else {
                    self.router.revoke(partition);
                    self.offsets.revoke(partition);
                    self.recorded.remove(&partition);
                    self.lanes[at].table.forget(*number);
                    wanted.retain(|wanted| wanted.partition != partition);
                    self.steer(at);
                }
            }
            tracing::info!(assigned, count = partitions.len(), "partitions changed");
        }
        *lock(&self.owned) = self.offsets.all().map(|(partition, _)| partition).collect();
        // What is gone is in doubt behind the reads that there were: those have to be known first.
        if self.heard {
            self.find_beginnings(wanted);
        }
    }

    /// Finds where all partitions begin that were assigned before the operator was heard.
    pub(super) fn find_all_beginnings(&mut self) {
        let all: Vec<Partition> = self.offsets.all().map(|(partition, _)| partition).collect();
        let mut wanted = Vec::new();
        for partition in all {
            if let Some(generation) = self.router.get(partition).map(|part| part.generation) {
                wanted.push(self.wanted(partition, generation, None));
            }
        }
        self.find_beginnings(wanted);
    }

    fn wanted(&self, partition: (usize, i32), generation: u64, next: Option<i64>) -> Wanted {
        let route = &self.lanes[partition.0].table.route;
        Wanted { partition, topic: route.topic.clone(), table: route.target.clone(), generation, next }
    }

    fn find_beginnings(&mut self, wanted: Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        let (consumer, progress, sender) =
            (std::sync::Arc::clone(&self.consumer), self.around.progress.clone(), self.sender.clone());
        let runtime = self.around.runtime.clone();
        self.tasks.spawn_on(
            locate(consumer, progress, wanted, move |located| drop(sender.send(Event::Located(located)))),
            &runtime,
        );
    }

    /// Looks whether records are gone between the last one of a partition and this one.
    #[cold]
    pub(super) fn look_again(&mut self, index: usize, offset: i64) {
        let generation = self.router.ask_again(index);
        let part = self.router.part(index);
        let (partition, next) = (part.partition, part.next);
        part.allowed = Some(offset);
        let lane = &self.lanes[partition.0];
        tracing::info!(
            table = lane.label.table,
            partition = partition.1,
            expected = next,
            found = offset,
            "a record does not follow on the last one: looking for what is between"
        );
        let mut list = TopicPartitionList::new();
        list.add_partition(&lane.table.route.topic, partition.1);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::warn!(%error, "a partition cannot be paused");
        }
        let wanted = self.wanted(partition, generation, Some(next));
        self.find_beginnings(vec![wanted]);
    }

    /// Looks again where records are gone that come next: where none follows, no record tells.
    pub(super) fn on_firsts(&mut self, firsts: Vec<(Partition, i64)>) {
        for (partition, low) in firsts {
            if self.router.get(partition).is_some_and(|part| part.is_cut(low))
                && let Some(index) = self.router.index(partition)
            {
                self.look_again(index, low);
            }
        }
    }

    pub(super) fn on_located(&mut self, located: Vec<Located>) {
        for Located { partition, generation, start, recorded, gap } in located {
            let Some(part) = self.router.get(partition).filter(|part| part.generation == generation) else {
                continue;
            };
            let again = self.recorded.contains(&partition);
            part.begin(start);
            let (at, number) = partition;
            if !again || gap.is_some() {
                self.offsets.begin(partition, start, again, recorded.as_ref().map(Recorded::applied));
            }
            self.recorded.insert(partition);
            if let Some(why) = gap {
                let why = format!("partition {number}: {why}");
                tracing::error!(table = self.lanes[at].label.table, why, "the table has to be read again");
                let applied = recorded.map_or((0, 0), |row| row.applied().at);
                self.doubt(at, why, applied);
            }
            self.resume(partition);
        }
    }

    /// Notes that records of a table are gone.
    fn doubt(&mut self, at: usize, why: String, applied: Position) {
        let lane = &mut self.lanes[at];
        lane.table.lost(why, applied);
        self.around.states.set(&lane.label.table, lane.table.state());
        let states = self.around.states.clone();
        let runtime = self.around.runtime.clone();
        self.tasks.spawn_on(
            async move {
                if let Err(error) = states.write(true).await {
                    tracing::warn!(%error, "a doubt cannot be noted yet");
                }
            },
            &runtime,
        );
    }

    /// Reads a partition on, unless its table is paused.
    fn resume(&mut self, partition: (usize, i32)) {
        let lane = &self.lanes[partition.0];
        if lane.paused {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&lane.table.route.topic, partition.1);
        if let Err(error) = self.consumer.resume(&list) {
            tracing::warn!(table = lane.label.table, %error, "a partition cannot be resumed");
        }
    }

    /// Tells librdkafka whether a table is to be read.
    pub(super) fn steer(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let pause = lane.table.waits() || lane.blocked;
        if pause == lane.paused {
            return;
        }
        lane.paused = pause;
        let topic = lane.table.route.topic.clone();
        let mut list = TopicPartitionList::new();
        for part in self.router.of_table(at).filter(|part| part.located) {
            list.add_partition(&topic, part.partition.1);
        }
        if list.count() == 0 {
            return;
        }
        let done = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            tracing::warn!(topic, pause, %error, "reading cannot be paused or resumed");
        }
        if !pause {
            self.go_back(at);
        }
    }

    /// Goes back to records that were not taken while their table waited.
    pub(super) fn go_back(&mut self, at: usize) {
        let topic = self.lanes[at].table.route.topic.clone();
        for part in self.router.of_table(at) {
            let Some(offset) = part.refused else { continue };
            match self.consumer.seek(&topic, part.partition.1, Offset::Offset(offset), Duration::from_secs(1))
            {
                Ok(()) => {
                    part.go_back(offset);
                }
                Err(error) => tracing::debug!(topic, %error, "cannot go back yet"),
            }
        }
    }
}
