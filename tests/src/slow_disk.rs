//! Slows down disk syncs of members that are processes: a preloaded library overrides `fsync` and related functions and
//! waits first. A changed delay also applies to syncs in progress.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static long ordered_ms(void) {
    long ms = 0;
    FILE *order = fopen(getenv("SLOW_DISK_ORDER"), "r");
    if (order) {
        if (fscanf(order, "%ld", &ms) != 1) ms = 0;
        fclose(order);
    }
    return ms;
}
static void hold(void) {
    for (long waited = 0; waited < ordered_ms(); waited += 10) usleep(10000);
}
int fsync(int fd) {
    hold();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    hold();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned flags) {
    hold();
    return ((int (*)(int, off64_t, off64_t, unsigned))dlsym(RTLD_NEXT, "sync_file_range"))(fd, offset, bytes, flags);
}
int msync(void *address, size_t bytes, int flags) {
    hold();
    return ((int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync"))(address, bytes, flags);
}
"#;

/// The library, and the files that contain the delays.
pub struct SlowDisk {
    directory: TempDir,
    library: PathBuf,
}

impl SlowDisk {
    /// Compiles the library; `None` on a machine without a C compiler.
    ///
    /// # Panics
    ///
    /// If compilation fails.
    pub fn build() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let (source, library) = (directory.path().join("slow.c"), directory.path().join("slow.so"));
        fs::write(&source, SOURCE).expect("a file");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let Ok(output) = compiler.output() else {
            crate::skip("there is no C compiler");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Self { directory, library })
    }

    fn order_file(&self, disk: &str) -> PathBuf {
        self.directory.path().join(disk)
    }

    /// Environment variables for a member that uses this disk.
    pub fn environment(&self, disk: &str) -> [(&'static str, String); 2] {
        let (library, order) =
            (self.library.display().to_string(), self.order_file(disk).display().to_string());
        [("LD_PRELOAD", library), ("SLOW_DISK_ORDER", order)]
    }

    /// Sets the delay of every sync on this disk from now on.
    ///
    /// # Panics
    ///
    /// If the file with the delay cannot be written.
    pub fn set(&self, disk: &str, delay: Duration) {
        let (aside, order) = (self.order_file("aside"), self.order_file(disk));
        fs::write(&aside, delay.as_millis().to_string()).expect("a file");
        fs::rename(&aside, &order).expect("a file");
    }
}
