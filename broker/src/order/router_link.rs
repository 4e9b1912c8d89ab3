//! One link in and one link out of rumqttd's router, and what keeps them in step.
//!
//! The router is used as an ordered log in memory. Everything published goes in through one [`Inlet`] and comes back
//! through one [`Outlet`], subscribed to `#`, in one order. What the router must not see (whom to acknowledge, QoS,
//! retain, MQTT 5 properties) stays outside as the **rider** of a ticket; the ticket's number travels in front of the
//! payload and is compared on the way back, so that a ticket can never be paired with another message unnoticed.
//!
//! The router overwrites its oldest segment when a reader lags. **Credits** make that impossible: the bytes
//! outstanding between inlet and outlet never exceed what all segments but one hold.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Packet, Publish};
use rumqttd::{Notification, Router, RouterConfig};
use sealpost_core::Topic;
use tokio::sync::Semaphore;

/// Bytes of one router segment. Small, because the router keeps [`SEGMENT_COUNT`] of them in memory for ever, and counts of
/// each message only topic and payload: the smallest has 20 bytes there and takes some 350.
const SEGMENT_SIZE: usize = 256 * 1024;

/// Segments that the router keeps before it overwrites the oldest.
const SEGMENT_COUNT: usize = 9;

/// Bytes that may be between inlet and outlet: every segment but the one being written (the router drops a segment only
/// when a new one is begun while all others are full).
pub const CREDIT_BYTES: usize = (SEGMENT_COUNT - 1) * SEGMENT_SIZE;

/// Batches that may be between inlet and outlet. The router's channel holds 1,000 events and sending to a full one
/// blocks the thread; each batch is one event, and the outlet adds at most a few of its own.
const CREDIT_BATCHES: usize = 900;

/// Messages that the router copies to the outlet in one go. (The router's default of 0 would deliver nothing.)
const READ_AT_ONCE: u64 = 1024;

/// What the router adds to topic and payload when it counts a message's size.
const ROUTER_OVERHEAD: usize = 4;

/// The ticket's number in front of each payload.
const NUMBER_LEN: usize = 8;

/// How long the router may take to hand a message back. It needs microseconds; it is a thread of this process, so a
/// silence this long means that it is gone or stuck, and a broker that accepts and never delivers is worse than none.
const STALL: Duration = Duration::from_secs(30);

/// Bytes of `route` and payload together that one message may have. Far above what the edge lets in.
pub const MAX_MESSAGE: usize = CREDIT_BYTES / 2;

/// The topic that the router sees. It remembers every topic for ever, ends its thread on some (one whose first character
/// takes several bytes) and never matches `$…` to `#`; so it gets to see the few that are known to be sound, and one
/// constant in place of all others, whose name rides outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route(Bytes);

impl Route {
    /// The constant that stands for every topic the router need not know.
    pub const OTHER: Route = Route(Bytes::from_static(b"other"));
}

impl From<&Topic> for Route {
    fn from(topic: &Topic) -> Route {
        Route(Bytes::from(topic.to_string()))
    }
}

/// A message on its way into the router.
#[derive(Debug)]
pub struct Submission<T> {
    /// The topic that the router sees.
    pub route: Route,
    /// What is carried.
    pub payload: Bytes,
    /// What stays outside and meets the message again at the outlet.
    pub rider: T,
}

/// A message as it comes back, in the one order.
#[derive(Debug)]
pub struct Ordered<T> {
    /// What was carried.
    pub payload: Bytes,
    /// What stayed outside.
    pub rider: T,
}

/// Why the links ended. Each of them ends the process: order or delivery could no longer be promised.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The router's thread has ended.
    #[error("the router is gone ({0})")]
    Gone(Box<LinkError>),
    /// Messages went in and none came out for half a minute.
    #[error("the router has not returned a message for {} s", STALL.as_secs())]
    Stalled,
    /// A message came back that is not the next ticket's.
    #[error("the router returned message {got:?} where {expected:?} was due")]
    OutOfStep {
        /// The number of the ticket at the head of the queue, if there is one.
        expected: Option<u64>,
        /// The number in front of the payload, if it has one.
        got: Option<u64>,
    },
    /// A message is larger than the router can carry without risk.
    #[error("a message of {0} bytes is above the limit of {MAX_MESSAGE}")]
    TooLarge(usize),
}

impl From<LinkError> for RouterError {
    fn from(error: LinkError) -> RouterError {
        // Boxed: it can hold a whole router event.
        RouterError::Gone(Box::new(error))
    }
}

struct Ticket<T> {
    number: u64,
    cost: usize,
    ends_batch: bool,
    rider: T,
}

struct Credits {
    bytes: Semaphore,
    batches: Semaphore,
}

struct Inbound<T> {
    link: LinkTx,
    next: u64,
    tickets: Arc<Mutex<VecDeque<Ticket<T>>>>,
}

/// The one way in. Cheap to share behind an [`Arc`].
pub struct Inlet<T> {
    credits: Arc<Credits>,
    tickets: Arc<Mutex<VecDeque<Ticket<T>>>>,
    inbound: Mutex<Inbound<T>>,
}

/// The one way out.
pub struct Outlet<T> {
    credits: Arc<Credits>,
    link: LinkRx,
    // Dropping it would not disconnect the link, but it is the link's other half and lives as long.
    _subscriber: LinkTx,
    tickets: Arc<Mutex<VecDeque<Ticket<T>>>>,
}

/// Starts the router's thread and joins both links to it. Blocks for the router's first answers (microseconds), so call
/// it before serving.
///
/// # Errors
/// [`RouterError::Gone`] when the router does not answer.
pub fn start<T>() -> Result<(Inlet<T>, Outlet<T>), RouterError> {
    let config = RouterConfig {
        max_connections: 2,
        max_outgoing_packet_count: READ_AT_ONCE,
        max_segment_size: SEGMENT_SIZE,
        max_segment_count: SEGMENT_COUNT,
        ..RouterConfig::default()
    };
    let router = Router::new(0, config).spawn();
    let (mut subscriber, mut outbound, _) = LinkBuilder::new("outlet", router.clone()).build()?;
    // Exactly one filter: each filter has its own log, and there is no order across logs.
    subscriber.subscribe("#")?;
    while !matches!(outbound.recv()?, Some(Notification::DeviceAck(_))) {}
    let (inbound, _, _) = LinkBuilder::new("inlet", router).build()?;

    let tickets = Arc::new(Mutex::new(VecDeque::new()));
    let credits = Arc::new(Credits {
        bytes: Semaphore::new(CREDIT_BYTES),
        batches: Semaphore::new(CREDIT_BATCHES),
    });
    let inlet = Inlet {
        credits: Arc::clone(&credits),
        tickets: Arc::clone(&tickets),
        inbound: Mutex::new(Inbound {
            link: inbound,
            next: 0,
            tickets: Arc::clone(&tickets),
        }),
    };
    Ok((
        inlet,
        Outlet {
            credits,
            link: outbound,
            _subscriber: subscriber,
            tickets,
        },
    ))
}

impl<T> std::fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Inlet<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inlet").finish_non_exhaustive()
    }
}

impl<T> Inlet<T> {
    /// Bytes that went in and have not come out yet.
    #[must_use]
    pub fn outstanding_bytes(&self) -> usize {
        CREDIT_BYTES.saturating_sub(self.credits.bytes.available_permits())
    }

    /// The number of the message that has been inside for longest, if there is one.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.front().map(|ticket| ticket.number)
    }

    /// Puts a batch into the one order, in its own order and next to each other. Waits for credits, that is for the
    /// outlet to have taken earlier messages. A batch that is too large for them goes in parts, and `announce` is called after
    /// each but the last, which the next one waits for to be taken out. Returns whether nothing else was inside as the last
    /// part went in.
    ///
    /// # Errors
    /// [`RouterError::TooLarge`] when one message is above [`MAX_MESSAGE`] (nothing was submitted);
    /// [`RouterError::Gone`] when the router has ended.
    pub async fn submit(
        &self,
        batch: Vec<Submission<T>>,
        announce: impl Fn(),
    ) -> Result<bool, RouterError> {
        if let Some(large) = batch.iter().map(cost).find(|cost| *cost > MAX_MESSAGE) {
            return Err(RouterError::TooLarge(large));
        }
        let mut part = Vec::with_capacity(batch.len());
        let mut part_cost = 0;
        for submission in batch {
            let cost = cost(&submission);
            if part_cost + cost > CREDIT_BYTES {
                self.submit_part(std::mem::take(&mut part), part_cost)
                    .await?;
                announce();
                part_cost = 0;
            }
            part_cost += cost;
            part.push(submission);
        }
        if part.is_empty() {
            Ok(false)
        } else {
            self.submit_part(part, part_cost).await
        }
    }

    async fn submit_part(
        &self,
        part: Vec<Submission<T>>,
        part_cost: usize,
    ) -> Result<bool, RouterError> {
        // Both semaphores live as long as this inlet and are never closed.
        let permits = u32::try_from(part_cost).map_err(|_| RouterError::TooLarge(part_cost))?;
        if let Ok(permit) = self.credits.batches.acquire().await {
            permit.forget();
        }
        if let Ok(permit) = self.credits.bytes.acquire_many(permits).await {
            permit.forget();
        }

        let mut inbound = self.inbound.lock().unwrap_or_else(PoisonError::into_inner);
        let Inbound {
            link,
            next,
            tickets,
        } = &mut *inbound;
        let last = part.len() - 1;
        let mut packets = Vec::with_capacity(part.len());
        let alone;
        {
            let mut tickets = tickets.lock().unwrap_or_else(PoisonError::into_inner);
            alone = tickets.is_empty();
            for (index, submission) in part.into_iter().enumerate() {
                let number = *next;
                *next += 1;
                let cost = cost(&submission);
                let mut numbered = BytesMut::with_capacity(NUMBER_LEN + submission.payload.len());
                numbered.put_u64(number);
                numbered.put_slice(&submission.payload);
                packets.push(Publish::new(submission.route.0, numbered.freeze(), false));
                tickets.push_back(Ticket {
                    number,
                    cost,
                    ends_batch: index == last,
                    rider: submission.rider,
                });
            }
        }
        // All but the last are laid into the link's buffer; the last goes in with the one event that announces all.
        let Some(Publish { topic, payload, .. }) = packets.pop() else {
            return Ok(false);
        };
        link.buffer().extend(
            packets
                .into_iter()
                .map(|publish| Packet::Publish(publish, None)),
        );
        link.publish(topic, payload)?;
        Ok(alone)
    }
}

fn cost<T>(submission: &Submission<T>) -> usize {
    ROUTER_OVERHEAD + submission.route.0.len() + NUMBER_LEN + submission.payload.len()
}

impl<T> Outlet<T> {
    /// The next message in the one order.
    ///
    /// # Errors
    /// See [`RouterError`]; after an error there is no order to go on with.
    pub async fn next(&mut self) -> Result<Ordered<T>, RouterError> {
        let mut overdue = None;
        loop {
            let notification = match tokio::time::timeout(STALL, self.link.next()).await {
                Ok(notification) => notification?,
                Err(_) => {
                    // The silence began before the message that is in the router now, perhaps; only a message that was
                    // there a whole wait ago is overdue.
                    let head = self.lock_tickets().front().map(|ticket| ticket.number);
                    if head.is_some() && head == overdue {
                        return Err(RouterError::Stalled);
                    }
                    overdue = head;
                    continue;
                }
            };
            if let Some(ordered) = self.take(notification)? {
                return Ok(ordered);
            }
        }
    }

    /// Whether all that went in has come out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock_tickets().is_empty()
    }

    /// The next message, for which this thread stands still until the deadline at most.
    ///
    /// # Errors
    /// As [`Outlet::next`].
    pub fn next_by(&mut self, deadline: Instant) -> Result<Option<Ordered<T>>, RouterError> {
        loop {
            let notification = match self.link.recv_deadline(deadline) {
                // Too late, or never again, which whoever waits without a deadline is told.
                Err(LinkError::RecvTimeout(_)) => return Ok(None),
                notification => notification?,
            };
            if let Some(ordered) = self.take(notification)? {
                return Ok(Some(ordered));
            }
        }
    }

    /// The next message if it is there already: what lets a group commit take all that has arrived.
    ///
    /// # Errors
    /// As [`Outlet::next`].
    pub fn try_next(&mut self) -> Result<Option<Ordered<T>>, RouterError> {
        loop {
            // `LinkRx` has no non-blocking read; one poll of its future is one. Dropping the future loses nothing: it
            // takes notifications only in the poll that returns one.
            let polled = pin!(self.link.next()).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(notification) = polled else {
                return Ok(None);
            };
            if let Some(ordered) = self.take(notification?)? {
                return Ok(Some(ordered));
            }
        }
    }

    fn take(
        &mut self,
        notification: Option<Notification>,
    ) -> Result<Option<Ordered<T>>, RouterError> {
        match notification {
            Some(Notification::Forward(forward)) => {
                let mut payload = forward.publish.payload;
                let got = payload
                    .get(..NUMBER_LEN)
                    .and_then(|number| number.try_into().ok())
                    .map(u64::from_be_bytes);
                let ticket = self.lock_tickets().pop_front();
                let expected = ticket.as_ref().map(|ticket| ticket.number);
                let Some(ticket) = ticket.filter(|_| got == expected) else {
                    return Err(RouterError::OutOfStep { expected, got });
                };
                self.credits.bytes.add_permits(ticket.cost);
                if ticket.ends_batch {
                    self.credits.batches.add_permits(1);
                }
                Ok(Some(Ordered {
                    payload: payload.split_off(NUMBER_LEN),
                    rider: ticket.rider,
                }))
            }
            // The router stops after a full buffer until it is told to go on. Its channel has room (see CREDIT_BATCHES).
            Some(Notification::Unschedule) => {
                self.link.ready()?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn lock_tickets(&self) -> std::sync::MutexGuard<'_, VecDeque<Ticket<T>>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
    use rumqttd::protocol::PublishProperties;

    fn routes() -> Vec<Route> {
        let topics = ["inbox/alice", "inbox/bob", "keys/alice"]
            .map(|topic| Route::from(&Topic::parse(topic).unwrap()));
        topics.into_iter().chain([Route::OTHER]).collect()
    }

    /// Names that ride outside: the router would choke on some and lose others.
    const NAMES: [&str; 6] = [
        "inbox/alice",
        "$SYS/x",
        "a//b/",
        "\u{e9}t\u{e9}/\u{1f4ee}",
        "",
        "a/#/b",
    ];

    #[derive(Debug, PartialEq)]
    struct Rider {
        publisher: u64,
        sequence: u64,
        size: usize,
        name: &'static str,
        properties: Option<PublishProperties>,
    }

    fn every_property(sequence: u64) -> PublishProperties {
        PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(0),
            topic_alias: Some(u16::MAX),
            response_topic: Some("\u{1f4ee}".into()),
            correlation_data: Some(Bytes::copy_from_slice(&sequence.to_be_bytes())),
            user_properties: vec![("k".into(), "v".into())],
            subscription_identifiers: vec![0],
            content_type: Some("text".into()),
        }
    }

    async fn exchange(publishers: u64, each: u64, largest: usize, stall_every: u64) {
        let (inlet, mut outlet) = start::<Rider>().unwrap();
        let inlet = Arc::new(inlet);
        for publisher in 0..publishers {
            let inlet = Arc::clone(&inlet);
            tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(publisher);
                let routes = routes();
                let mut body = vec![0; largest];
                rng.fill_bytes(&mut body);
                let body = Bytes::from(body);
                let mut sequence = 0;
                while sequence < each {
                    let batch = (sequence..each.min(sequence + rng.random_range(1..40)))
                        .map(|sequence| {
                            let size = rng.random_range(0..=largest);
                            let properties = (sequence % 16 == 0).then(|| every_property(sequence));
                            Submission {
                                route: routes[rng.random_range(0..routes.len())].clone(),
                                payload: body.slice(..size),
                                rider: Rider {
                                    publisher,
                                    sequence,
                                    size,
                                    name: NAMES[size % NAMES.len()],
                                    properties,
                                },
                            }
                        })
                        .collect::<Vec<_>>();
                    sequence += batch.len() as u64;
                    inlet.submit(batch, || ()).await.unwrap();
                }
            });
        }
        let mut due = vec![0; usize::try_from(publishers).unwrap()];
        for taken in 0..publishers * each {
            let Ordered { payload, rider } = match outlet.try_next().unwrap() {
                Some(ordered) => ordered,
                None => outlet.next().await.unwrap(),
            };
            let due = &mut due[usize::try_from(rider.publisher).unwrap()];
            assert_eq!(
                rider.sequence, *due,
                "publisher {} out of order",
                rider.publisher
            );
            *due += 1;
            assert_eq!(payload.len(), rider.size);
            assert_eq!(rider.name, NAMES[rider.size % NAMES.len()]);
            assert_eq!(
                rider.properties,
                (rider.sequence % 16 == 0).then(|| every_property(rider.sequence))
            );
            if taken % stall_every == stall_every - 1 {
                // Long enough for the publishers to run into the credits.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
        assert!(outlet.try_next().unwrap().is_none());
        assert_eq!(outlet.credits.bytes.available_permits(), CREDIT_BYTES);
        assert_eq!(outlet.credits.batches.available_permits(), CREDIT_BATCHES);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn ten_million_messages_keep_their_order_and_their_tickets() {
        exchange(8, 1_250_000, 600, 1_000_000).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stalling_outlet_loses_nothing_of_many_times_the_routers_memory() {
        exchange(4, 5_000, 64 * 1024, 2_000).await;
    }

    #[tokio::test]
    async fn a_batch_larger_than_all_credits_is_announced_in_parts() {
        let (inlet, mut outlet) = start::<u8>().unwrap();
        let announced = tokio::sync::Notify::new();
        let batch = (0..5).map(|rider| Submission {
            route: Route::OTHER,
            payload: vec![0; CREDIT_BYTES / 2 - 100].into(),
            rider,
        });
        let taking = async {
            for rider in 0..5 {
                // Whoever takes out waits until there is something: two go in at once.
                if rider % 2 == 0 {
                    announced.notified().await;
                }
                assert_eq!(outlet.next().await.unwrap().rider, rider);
            }
        };
        let submitting = async {
            let submitted = inlet.submit(batch.collect(), || announced.notify_one());
            submitted.await.unwrap();
            announced.notify_one();
        };
        tokio::join!(submitting, taking);
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_refused_before_anything_is_submitted() {
        let (inlet, mut outlet) = start::<u8>().unwrap();
        let small = Submission {
            route: Route::OTHER,
            payload: Bytes::from_static(b"x"),
            rider: 1,
        };
        let large = Submission {
            route: Route::OTHER,
            payload: vec![0; MAX_MESSAGE].into(),
            rider: 2,
        };
        assert!(matches!(
            inlet.submit(vec![small, large], || ()).await,
            Err(RouterError::TooLarge(_))
        ));
        let next = Submission {
            route: Route::OTHER,
            payload: Bytes::new(),
            rider: 3,
        };
        inlet.submit(vec![next], || ()).await.unwrap();
        assert_eq!(outlet.next().await.unwrap().rider, 3);
    }

    #[tokio::test]
    async fn a_message_that_no_ticket_announced_ends_the_links() {
        let (inlet, mut outlet) = start::<u8>().unwrap();
        inlet
            .inbound
            .lock()
            .unwrap()
            .link
            .publish("r", "stowaway")
            .unwrap();
        assert!(matches!(
            outlet.next().await,
            Err(RouterError::OutOfStep { expected: None, .. })
        ));
    }

    /// The silence that a timer measures may have begun long before the message that is in the router as it ends.
    #[tokio::test(start_paused = true)]
    async fn a_message_after_a_long_silence_is_not_taken_for_a_stall() {
        // The router runs by its own clock; while a blocking task runs, the paused one moves only when it is told to.
        let (done, standing_still) = std::sync::mpsc::channel::<()>();
        let guard = tokio::task::spawn_blocking(move || standing_still.recv());
        for round in 0..200u32 {
            let (inlet, mut outlet) = start::<u32>().unwrap();
            let waiting = tokio::spawn(async move { outlet.next().await.map(|it| it.rider) });
            tokio::task::yield_now().await;
            tokio::time::advance(STALL - Duration::from_millis(1)).await;
            let submission = Submission {
                route: Route::OTHER,
                payload: Bytes::from_static(b"x"),
                rider: round,
            };
            inlet.submit(vec![submission], || ()).await.unwrap();
            // Two more milliseconds by this clock; the router has had far less than 30 s.
            tokio::time::advance(Duration::from_millis(2)).await;
            let got = waiting.await.unwrap();
            assert!(
                matches!(got, Ok(rider) if rider == round),
                "round {round}: {got:?}"
            );
        }
        drop(done);
        let _ = guard.await.unwrap();
    }

    #[tokio::test]
    async fn the_death_of_the_router_is_noticed() {
        let (inlet, mut outlet) = start::<u8>().unwrap();
        // What no route can hold: its thread ends on a topic that begins with a character of several bytes.
        let _ = inlet.inbound.lock().unwrap().link.publish("\u{e9}", "x");
        assert!(matches!(outlet.next().await, Err(RouterError::Gone(_))));
    }
}
