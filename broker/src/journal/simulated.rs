//! A store for tests: tables in memory, a loss of power that keeps of the unsynced batches whichever it likes, commits that fail,
//! and a disk that is full.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::store::{Durability, Row, Store, StoreError, Table, Write};

type Tables = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    /// What can be read.
    written: Tables,
    /// What is on the medium for certain.
    synced: Tables,
    /// Batches since then.
    unsynced: Vec<Vec<Write>>,
    /// How many commits until one fails.
    fails_in: Option<u64>,
    /// Whether one has failed.
    failed: bool,
    free: Option<u64>,
    commits: u64,
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct SimulatedStore {
    state: Mutex<State>,
    /// Held by whoever keeps the disk from taking anything.
    gate: Mutex<()>,
}

fn apply(tables: &mut Tables, batch: &[Write]) {
    for Write { table, key, value } in batch {
        match value {
            Some(value) => drop(tables.insert((*table, key.clone()), value.clone())),
            None => drop(tables.remove(&(*table, key.clone()))),
        }
    }
}

impl SimulatedStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store after a loss of power: of each batch that was not synced, `survives` says whether it is there.
    pub fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> SimulatedStore {
        let state = self.lock();
        let mut tables = state.synced.clone();
        for batch in &state.unsynced {
            if survives() {
                apply(&mut tables, batch);
            }
        }
        SimulatedStore {
            state: Mutex::new(State {
                written: tables.clone(),
                synced: tables,
                free: state.free,
                ..State::default()
            }),
            gate: Mutex::default(),
        }
    }

    /// While the guard lives, the disk takes nothing: who commits waits.
    pub fn stall(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the commit after `commits` more fail, and all after it. Whether that one is on the medium nobody knows: a loss of
    /// power decides.
    pub fn fail_in(&self, commits: u64) {
        self.lock().fails_in = Some(commits);
    }

    /// No commit is to fail.
    pub fn fail_never(&self) {
        self.lock().fails_in = None;
    }

    /// Says how much is free.
    pub fn set_free(&self, free: u64) {
        self.lock().free = Some(free);
    }

    /// Rows in a table.
    pub fn len(&self, table: Table) -> usize {
        self.lock()
            .written
            .keys()
            .filter(|(of, _)| *of == table)
            .count()
    }

    /// Batches committed.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }
}

impl Store for SimulatedStore {
    fn commit(&self, batch: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let _open = self.stall();
        let mut state = self.lock();
        match &mut state.fails_in {
            Some(0) => {
                if !std::mem::replace(&mut state.failed, true) {
                    state.unsynced.push(batch);
                }
                return Err(StoreError::Failed("simulated: the disk is gone".into()));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        state.commits += 1;
        let keys = batch.iter().map(|write| (write.table, &write.key));
        let distinct = keys.collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), batch.len(), "two writes to one key");
        apply(&mut state.written, &batch);
        state.unsynced.push(batch);
        if durability == Durability::Synced {
            let State {
                synced, unsynced, ..
            } = &mut *state;
            for batch in unsynced.drain(..) {
                apply(synced, &batch);
            }
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let state = self.lock();
        let value = state.written.get(&(table, key.to_vec()));
        Ok(value.map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let state = self.lock();
        let rows = state.written.range((table, from.max(prefix).to_vec())..);
        let rows = rows.take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
        let rows = rows.map(|((_, key), value)| (key.clone().into(), value.clone().into()));
        Ok(rows.take(limit).collect())
    }

    fn free(&self) -> Option<u64> {
        self.lock().free
    }
}
