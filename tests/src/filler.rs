//! A disk that becomes full for a broker that keeps a reserve, without any privilege: its reserve is chosen just below what is free,
//! and a file takes the rest.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Bytes that others on the same disk may take while a test runs, where there are as many.
const SLACK: u64 = 8 * 1024 * 1024 * 1024;

/// What fills a disk.
#[derive(Debug)]
pub struct Filler {
    file: PathBuf,
    reserve: u64,
}

impl Filler {
    /// One that writes nothing yet, into a directory on the disk in question.
    #[must_use]
    pub fn of(dir: &Path) -> Filler {
        let free = free(dir);
        Filler {
            file: dir.join("filler"),
            reserve: free - SLACK.min(free / 4),
        }
    }

    /// What the broker has to be given as `limits.disk_reserve`.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Takes so much that less than the reserve is left.
    pub fn fill(&self) {
        // Beyond what the broker frees meanwhile by tidying up.
        const MORE: u64 = 1024 * 1024 * 1024;
        let file = File::create(&self.file).unwrap();
        let dir = self.file.parent().unwrap();
        let size = free(dir).saturating_sub(self.reserve).saturating_add(MORE);
        fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
    }

    /// Gives it back.
    pub fn empty(&self) {
        std::fs::remove_file(&self.file).unwrap();
    }
}

fn free(dir: &Path) -> u64 {
    let stat = statvfs(dir).unwrap();
    stat.f_bavail * stat.f_frsize
}
