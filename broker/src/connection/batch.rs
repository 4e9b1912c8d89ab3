//! Publishes that a reader has taken up and that go into the one order together.

use rumqttd::protocol::QoS;

use crate::order::dispatcher::Ticket;
use crate::order::router_link::Submission;

/// Publishes on their way into the one order. Those that do not get there, because their reader failed, free their packet
/// identifiers (QoS 2): their client, who was told nothing, sends them again.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) publishes: Vec<Submission<Ticket>>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        for Submission { rider, .. } in &self.publishes {
            if let Some(origin) = &rider.origin
                && rider.qos == QoS::ExactlyOnce
            {
                // Nobody who waits for it is told anything either.
                drop(origin.settle_reception(rider.pkid, false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::delivery::bench::{Bench, receipt};
    use crate::order::router_link::Route;
    use crate::protocol::topic_name::TopicName;

    #[tokio::test]
    async fn a_publish_at_qos_2_whose_reader_fails_may_be_sent_again() {
        let bench = Bench::new();
        let client = bench.client("a", Duration::ZERO);
        let session = &client.session;
        let (first, second) = (receipt(), receipt());
        assert!(session.receive(7, &first));
        assert!(!session.receive(7, &second), "it is under way");
        let submission = Submission {
            route: Route::OTHER,
            payload: "x".into(),
            rider: Ticket {
                topic: TopicName::parse(b"t").unwrap(),
                qos: QoS::ExactlyOnce,
                pkid: 7,
                retain: false,
                supersedes: false,
                properties: None,
                expires: None,
                sender: None,
                origin: Some(Arc::clone(session)),
                wire: Arc::clone(client.wire()),
                receipt: Some(first),
            },
        };
        let failing = std::thread::spawn(move || {
            let _batch = Batch {
                publishes: vec![submission],
            };
            panic!("the reader fails");
        });
        assert!(failing.join().is_err());
        assert_eq!(
            Arc::strong_count(&second),
            1,
            "nobody waits for it any more"
        );
        assert!(session.receive(7, &receipt()), "as if it had never come");
    }
}
