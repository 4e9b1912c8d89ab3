//! The store on disk: fjall, with one keyspace for each table.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::store::{Durability, Row, Snapshot, Store, StoreError, Table, Write};
use crate::files::create_private_dir;

/// Bytes of one table's newest writes in memory, before they become a file. Small: the mail of people who are connected
/// is gone again before it fills, and a restart reads at most this much of each table again.
const MEMTABLE: u64 = 16 * 1024 * 1024;

/// Bytes of read blocks kept in memory.
const CACHE: u64 = 16 * 1024 * 1024;

/// Bytes of write-ahead files before old tables are written out to free them.
const WRITE_AHEAD: u64 = 128 * 1024 * 1024;

/// Threads that write tables out and merge them.
const WORKERS: usize = 2;

/// Tables on disk.
pub struct DiskStore {
    dir: PathBuf,
    database: Database,
    tables: Vec<(Table, Keyspace)>,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore").field("dir", &self.dir).finish()
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

impl DiskStore {
    /// Opens or creates the store in a directory. Only one process has it open at a time.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Failed`].
    pub fn open(dir: &Path) -> Result<DiskStore, StoreError> {
        create_private_dir(dir).map_err(failed)?;
        let database = Database::builder(dir)
            .worker_threads(WORKERS)
            .cache_size(CACHE)
            .max_journaling_size(WRITE_AHEAD)
            .manual_journal_persist(true)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::InUse(dir.to_owned()),
                error => failed(error),
            })?;
        let tables = Table::ALL.map(|table| {
            let options = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(MEMTABLE)
                    .manual_journal_persist(true)
            };
            Ok((table, database.keyspace(table.name(), options)?))
        });
        let tables = tables
            .into_iter()
            .collect::<Result<Vec<_>, fjall::Error>>()
            .map_err(failed)?;
        Ok(DiskStore {
            dir: dir.to_owned(),
            database,
            tables,
        })
    }

    fn keyspace(&self, table: Table) -> Result<&Keyspace, StoreError> {
        let found = self.tables.iter().find(|(known, _)| *known == table);
        let (_, keyspace) = found.ok_or_else(|| failed("no such table"))?;
        Ok(keyspace)
    }
}

impl Store for DiskStore {
    fn commit(&self, batch: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        let sync = match durability {
            // Into the kernel at least: the process may be killed without a loss.
            Durability::Written => PersistMode::Buffer,
            Durability::Synced => PersistMode::SyncData,
        };
        if batch.is_empty() {
            return self.database.persist(sync).map_err(failed);
        }
        let mut writes = self.database.batch().durability(Some(sync));
        for Write { table, key, value } in batch {
            let keyspace = self.keyspace(table)?;
            match value {
                Some(value) => writes.insert(keyspace, key, value),
                None => writes.remove(keyspace, key),
            }
        }
        writes.commit().map_err(failed)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.keyspace(table)?.get(key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for guard in self.keyspace(table)?.range(from.max(prefix)..).take(limit) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            if !key.starts_with(prefix) {
                break;
            }
            rows.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
        }
        Ok(rows)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(DiskSnapshot {
            snapshot: self.database.snapshot(),
            tables: self.tables.clone(),
        }))
    }

    fn free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Tables on disk as they were.
struct DiskSnapshot {
    snapshot: fjall::Snapshot,
    tables: Vec<(Table, Keyspace)>,
}

impl std::fmt::Debug for DiskSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSnapshot").finish_non_exhaustive()
    }
}

impl Snapshot for DiskSnapshot {
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let found = self.tables.iter().find(|(known, _)| *known == table);
        let (_, keyspace) = found.ok_or_else(|| failed("no such table"))?;
        let rows = self.snapshot.range(keyspace, from..).take(limit);
        rows.map(|guard| {
            let (key, value) = guard.into_inner().map_err(failed)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
        .collect()
    }
}
