//! Parting with sessions that would hold others up: full ones on topics that nobody's mail goes through, archivers' where
//! the operator has chosen that, and clean ones that read too slowly.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rumqttd::protocol::DisconnectReasonCode;

use super::Board;
use crate::delivery::session::{Session, SessionKey};
use crate::delivery::topics::Subscriber;
use crate::delivery::wire::Goodbye;

/// A session that was ended because it held all that its owner may, with what it was owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Whose it was.
    pub key: SessionKey,
    /// Whether it was an archiver's.
    pub archive: bool,
    /// Messages that it was owed.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Board {
    /// Ends sessions whose owners hold all that they may, and all members of such groups. Called within a turn.
    pub(super) fn part_with(&self, full: &[Subscriber]) {
        let mut members = self.members();
        let mut keys = Vec::new();
        for subscriber in full {
            match subscriber {
                Subscriber::Session(session) => keys.push(session.key().clone()),
                Subscriber::Group(mailbox) => {
                    let shares = |filter| {
                        let group = members.groups.get(filter);
                        group.is_some_and(|group| Arc::ptr_eq(&group.mailbox, mailbox))
                    };
                    let sessions = members.sessions.iter();
                    let of_group = sessions.filter(|(_, member)| member.filters.iter().any(shares));
                    keys.extend(of_group.map(|(key, _)| key.clone()));
                }
            }
        }
        for key in keys {
            let Some(member) = members.sessions.remove(&key) else {
                continue;
            };
            let (messages, bytes) = member.session.mailbox().load_of();
            let archive = member.session.share().archive;
            let SessionKey { owner, client_id } = &key;
            if archive {
                tracing::error!(
                    owner,
                    ?client_id,
                    messages,
                    bytes,
                    "parted with an archiver, whose queue is full: it does not get what it was owed"
                );
            } else {
                tracing::warn!(
                    owner,
                    ?client_id,
                    messages,
                    bytes,
                    "ended a session that read too little of what others publish: it does not get what it was owed"
                );
            }
            member.session.disconnect(Goodbye::new(
                DisconnectReasonCode::QuotaExceeded,
                "the mailbox is full, so this session has ended with all that it was owed; begin a new one, and read",
            ));
            self.forget(&mut members, &member);
            let totals = &self.totals;
            totals.ended_full.fetch_add(1, Ordering::Relaxed);
            totals
                .archivers_parted
                .fetch_add(u64::from(archive), Ordering::Relaxed);
            let parting = Parting {
                key,
                archive,
                messages,
                bytes,
            };
            let mut partings = self.partings.lock().unwrap_or_else(PoisonError::into_inner);
            partings.push(parting);
        }
    }

    /// Sessions that it parted with since this was last asked.
    #[must_use]
    pub fn take_partings(&self) -> Vec<Parting> {
        let mut partings = self.partings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut partings)
    }

    /// Disconnects a clean session that holds others up.
    pub(super) fn disconnect_slow(&self, session: &Session) {
        let told = session.disconnect(Goodbye::new(
            DisconnectReasonCode::QuotaExceeded,
            "this clean session read too slowly for too long; connect with a session that is kept, or read faster",
        ));
        self.totals
            .too_slow
            .fetch_add(u64::from(told), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rumqttd::protocol::{DisconnectReasonCode, QoS, RetainForwardRule};

    use super::*;
    use crate::delivery::account::Share;
    use crate::delivery::bench::{
        Bench, Client, DURABLE, SHARE, attachment, bounds, now, receipt, subscription,
    };
    use crate::delivery::board::{Bounds, Posted};
    use crate::delivery::mailbox::{HELD_BYTES, LIVE_BYTES};
    use crate::journal::simulated::SimulatedStore;
    use crate::protocol::outcome::{Outcome, Quota};
    use crate::protocol::topic_name::FilterName;

    const REFUSED: Posted = Posted::Refused(Outcome::QuotaExceeded(Quota::Mailbox));
    const UNARCHIVED: Posted = Posted::Refused(Outcome::QuotaExceeded(Quota::Archive));

    fn join(bench: &Bench, owner: &str, client_id: &str, filters: &[&str]) -> Client {
        let key = SessionKey {
            owner: owner.into(),
            client_id: client_id.into(),
        };
        let share = Share {
            archive: owner.starts_with("archiver:"),
            messages: 8,
            parts: 4,
            ..SHARE
        };
        let attachment = attachment(None);
        let joined = bench
            .board
            .join(&key, false, DURABLE, share, attachment.clone());
        let joined = joined.unwrap();
        for filter in filters {
            let filter = FilterName::parse(filter).unwrap();
            let rule = RetainForwardRule::Never;
            bench
                .board
                .subscribe(
                    &joined.session,
                    &filter,
                    subscription(QoS::AtLeastOnce),
                    &rule,
                    now(),
                )
                .unwrap();
        }
        Client {
            session: joined.session,
            attachment,
            present: joined.present,
        }
    }

    async fn read(client: &Client) -> usize {
        let texts = client.texts().await;
        for (pkid, _) in &texts {
            client.session.acknowledge(client.wire(), *pkid);
        }
        texts.len()
    }

    fn publish(bench: &Bench, topic: &str) -> Posted {
        let publisher = bench.client("publisher", std::time::Duration::ZERO);
        bench.post(&publisher, topic, "x", QoS::AtLeastOnce)
    }

    fn why(client: &Client) -> Option<DisconnectReasonCode> {
        client.wire().goodbye().map(|goodbye| goodbye.reason)
    }

    #[tokio::test]
    async fn a_reader_that_never_reads_loses_its_session_and_does_not_stop_the_topic() {
        let bench = Bench::new();
        let stuck = join(&bench, "mallory", "m", &["news"]);
        let good = join(&bench, "bob", "b", &["news"]);
        let mut got = 0;
        for number in 0..20 {
            assert_ne!(publish(&bench, "news"), REFUSED, "{number}");
            assert_eq!(why(&stuck).is_some(), number >= 8, "{number}");
            got += read(&good).await;
        }
        assert_eq!(got, 20);
        assert_eq!(why(&stuck), Some(DisconnectReasonCode::QuotaExceeded));
        let told = bench.board.take_partings();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].key.owner.as_str(), told[0].messages),
            ("mallory", 8)
        );
        assert!(
            !join(&bench, "mallory", "m", &[]).present,
            "it begins anew, and knows"
        );
        bench.synced().await;
        assert_eq!(bench.board.load().mail_bytes, 0);
    }

    /// One device is in a drawer, full; the other reads.
    #[tokio::test]
    async fn a_session_that_reads_is_not_ended_for_another_of_its_owner() {
        let bench = Bench::new();
        let _drawer = join(&bench, "bob", "drawer", &["inbox/bob"]);
        let reader = join(&bench, "bob", "reader", &["news"]);
        while publish(&bench, "inbox/bob") != REFUSED {}
        for _ in 0..20 {
            assert_ne!(publish(&bench, "news"), REFUSED);
            assert_eq!(read(&reader).await, 1);
        }
        assert_eq!(why(&reader), None);
        // Now it stops too, and an even part is all that it gets beyond what its owner may hold.
        for number in 0..3 {
            assert_ne!(publish(&bench, "news"), REFUSED);
            assert_eq!(why(&reader).is_some(), number == 2);
        }
        assert_eq!(
            publish(&bench, "inbox/bob"),
            REFUSED,
            "mail is refused, and kept"
        );
    }

    /// Many publishers at their windows, and one clean session that does not read.
    #[tokio::test]
    async fn a_clean_session_that_holds_too_much_is_disconnected_at_once_and_lets_all_go() {
        let bench = Bench::new();
        let publisher = bench.client("publisher", std::time::Duration::ZERO);
        let stuck = bench.client("stuck", std::time::Duration::ZERO);
        bench.subscribe(&stuck, "t", QoS::AtLeastOnce);
        let text = "x".repeat(1 << 20);
        let mut receipts = Vec::new();
        while why(&stuck).is_none() {
            let mut post = bench.a_post(&publisher, "t", &text, QoS::AtLeastOnce);
            let receipt = receipt();
            post.receipt = Some(std::sync::Arc::clone(&receipt));
            receipts.push(receipt);
            assert_ne!(bench.board.post(&post), REFUSED);
            assert!(receipts.len() <= (HELD_BYTES + LIVE_BYTES) >> 20);
        }
        assert!(receipts.len() > HELD_BYTES >> 20, "not before it must");
        let held = receipts.iter().filter(|one| Arc::strong_count(one) > 1);
        assert_eq!(held.count(), 0);
        assert_eq!(stuck.session.mailbox().load_of(), (0, 0));
        assert_eq!(bench.board.totals().too_slow.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_members_of_a_group_that_never_reads_lose_their_sessions() {
        let bench = Bench::new();
        let members = ["one", "two"].map(|id| join(&bench, "mallory", id, &["$share/g/news"]));
        let good = join(&bench, "bob", "b", &["news"]);
        let mut got = 0;
        for _ in 0..20 {
            assert_ne!(publish(&bench, "news"), REFUSED);
            got += read(&good).await;
        }
        assert_eq!(got, 20);
        assert!(members.iter().all(|member| why(member).is_some()));
    }

    #[tokio::test]
    async fn a_full_archiver_refuses_mail_or_is_parted_with_as_the_operator_chose() {
        for part in [false, true] {
            let bounds = Bounds {
                part_with_archivers: part,
                ..bounds()
            };
            let bench = Bench::over(SimulatedStore::default(), bounds);
            let archiver = join(&bench, "archiver:depot", "a", &["inbox/+"]);
            let bob = join(&bench, "bob", "b", &["inbox/bob"]);
            let mut got = 0;
            for number in 0..20 {
                let refused = publish(&bench, "inbox/bob") == UNARCHIVED;
                assert_eq!(refused, !part && number >= 8, "{number}");
                got += read(&bob).await;
            }
            assert_eq!(got, if part { 20 } else { 8 });
            assert_eq!(why(&archiver).is_some(), part);
            assert_eq!(bench.board.take_partings().len(), usize::from(part));
            let parted = &bench.board.totals().archivers_parted;
            assert_eq!(parted.load(Ordering::Relaxed), u64::from(part));
        }
    }

    #[tokio::test]
    async fn all_sessions_of_an_owner_have_one_mailbox_between_them_also_after_a_restart() {
        let bench = Bench::new();
        let mut sessions = Vec::new();
        for id in ["one", "two", "three"] {
            let session = join(&bench, "bob", id, &["inbox/bob"]);
            publish(&bench, "inbox/bob");
            bench
                .board
                .unsubscribe(&session.session, &FilterName::parse("inbox/bob").unwrap());
            sessions.push(session);
        }
        bench.synced().await;
        let bytes = bench.board.load().mail_bytes;
        let share = sessions[0].session.share();
        let bench = Bench::over_with(bench.close().after_power_loss(|| false), bounds(), share);
        assert_eq!(bench.board.load().mail_bytes, bytes);
        join(&bench, "bob", "four", &["inbox/bob"]);
        let taken = (0..20).filter(|_| publish(&bench, "inbox/bob") != REFUSED);
        assert_eq!(taken.count(), 5, "8 less the 3 in the other sessions");
    }
}
