//! A small disk that a test can fill.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

/// A small file system in memory.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    mib: usize,
}

impl SmallDisk {
    /// Mounts one of so many MiB, when this user may; otherwise says that the test is skipped.
    #[must_use]
    pub fn mount(mib: usize) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]);
        let mounted = mount.arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { dir, mib });
        }
        // Not by a macro: those are silent when the test passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a test of a full disk: this user may not mount a tmpfs"
        );
        None
    }

    /// Fills it until fewer than this many MiB are free; with 0 until there is no room for another byte.
    pub fn fill(&self, left: usize) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for _ in left..self.mib {
            // Of what does not fit whole, what fits is written.
            if file.write_all(&vec![0; MIB]).is_err() {
                break;
            }
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// Nothing can be written to it any more.
    pub fn make_read_only(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.dir.path());
        assert!(mount.status().unwrap().success());
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> std::path::PathBuf {
        self.dir.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}
