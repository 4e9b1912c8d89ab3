//! An archive that is being written verifies at every moment.

use std::sync::atomic::{AtomicBool, Ordering};

use sealpost_archive::layout::LogName;
use sealpost_archive::storage::Directory;
use sealpost_archive::verify::Verification;
use sealpost_archiver::arrival::Arrival;
use sealpost_archiver::evidence::Evidence;
use sealpost_archiver::writer::Writer;

use crate::evidence::signer;
use crate::messages::at;

const LOG: LogName = LogName::EncryptedLogs;

#[test]
fn an_archive_that_is_being_written_verifies() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(parent.path()).unwrap();
    let (mut writer, recovery) = Writer::open(&directory, LOG, 1000, None).unwrap();
    let mut evidence = Evidence::new(directory.clone(), LOG, recovery.tree, signer(), 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..60_u64 {
                let arrivals: Vec<Arrival> = (0..13)
                    .map(|place| {
                        // What is no envelope is kept, too, and is quickly made.
                        let payload = format!("{batch}/{place}");
                        Arrival::new("inbox/bob".into(), payload.into(), 1, None)
                    })
                    .collect();
                let archived = writer.archive(&arrivals, at()).unwrap();
                evidence.add(archived.leaves);
                evidence.publish().unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let verifier = signer().verifier().unwrap();
        let mut last = 0;
        loop {
            let finished = done.load(Ordering::Acquire);
            let verification = Verification::open(directory.clone(), LOG, &verifier, &[]).unwrap();
            let report = verification.run(|_| {});
            // Before the first checkpoint there is nothing to hold the lines against.
            if report.signed.is_some() {
                assert!(report.ok, "{:?}", report.findings);
                assert!(report.last >= last);
                last = report.last;
            }
            if finished {
                assert_eq!((report.last, report.signed), (780, Some(780)));
                assert_eq!(report.missing_tiles, 0);
                break;
            }
        }
    });
}
