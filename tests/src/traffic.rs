//! Traffic over one broker: publishers and subscribers of both versions, and every message accounted for.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::raw::Connect;
use crate::{Publisher, Raw, Subscriber, Weather};

/// How far publishers run ahead of the slowest subscriber, in messages: far enough that its mail is on disk alone, and not
/// without end, so that what the broker needs for it can level off.
const LEAD: u64 = 100_000;

/// Publishers, subscribers, and what they know of the broker.
#[derive(Debug)]
pub struct Traffic {
    /// What they know of the broker.
    pub weather: Weather,
    publishers: Vec<Publisher>,
    /// Its one topic, `state`, is retained.
    retaining: Publisher,
    subscribers: Vec<Subscriber>,
}

impl Traffic {
    /// Enrols the subscribers. Nothing flows yet.
    #[must_use]
    pub fn new(
        weather: Weather,
        publishers: impl Into<Vec<Publisher>>,
        subscribers: impl Into<Vec<Subscriber>>,
    ) -> Traffic {
        let subscribers = subscribers.into();
        for subscriber in &subscribers {
            subscriber.enrol(&weather);
        }
        Traffic {
            weather,
            publishers: publishers.into(),
            retaining: Publisher::retaining("state"),
            subscribers,
        }
    }

    /// Lets it flow while `trouble` lasts, and to its end; then accounts for every message.
    ///
    /// # Panics
    /// When one that was acknowledged did not reach a subscriber, or not in its order, or at QoS 2 not once; when one came that
    /// was refused; when a retained message went back.
    pub fn during(&self, trouble: impl FnOnce()) {
        let weather = &self.weather;
        std::thread::scope(|scope| {
            // A failure ends it for all: nobody waits for those who are gone.
            let _end = weather.end_in_any_case();
            let state = scope.spawn(|| {
                let _end = weather.end_in_any_case();
                self.retaining.run(weather, || true)
            });
            let published = self.publishers.iter().map(|publisher| {
                scope.spawn(|| {
                    let _end = weather.end_in_any_case();
                    publisher.run(weather, || self.may_publish())
                })
            });
            let published = published.collect::<Vec<_>>();
            let read = self.subscribers.iter().map(|subscriber| {
                scope.spawn(|| {
                    let _end = weather.end_in_any_case();
                    subscriber.run(weather, self.publishers.len())
                })
            });
            let read = read.collect::<Vec<_>>();
            trouble();
            weather.end();
            let began = Instant::now();
            let join =
                |publisher: std::thread::ScopedJoinHandle<'_, u64>| publisher.join().unwrap();
            let states = join(state);
            let counts = published.into_iter().map(join).collect::<Vec<_>>();
            let notes = read.into_iter().map(|reader| reader.join().unwrap());
            let notes = notes.collect::<Vec<_>>();
            self.assert_retained();
            println!("{states} retained, drained in {:?}", began.elapsed());
            for (publisher, count) in self.publishers.iter().zip(counts) {
                let repeated = publisher.repeated.load(Ordering::SeqCst);
                let refused = publisher.refused.lock().unwrap().len() as u64;
                println!(
                    "{}: {} acknowledged, {refused} refused, {repeated} sent again",
                    publisher.name,
                    count - refused
                );
                for (reader, notes) in self.subscribers.iter().zip(&notes) {
                    let again = reader.assert_complete(notes, publisher, count);
                    println!("  {}: all, {again} again", reader.name);
                }
            }
        });
    }

    fn may_publish(&self) -> bool {
        self.behind() < LEAD
    }

    /// Messages that the broker has acknowledged, retained ones not counted.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        let acknowledged = self.publishers.iter().map(|publisher| {
            let answered = publisher.answered.load(Ordering::Relaxed);
            answered.saturating_sub(publisher.refused.lock().unwrap().len() as u64)
        });
        acknowledged.sum()
    }

    /// Messages that the broker has refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        let publishers = self.publishers.iter().chain([&self.retaining]);
        publishers
            .map(|publisher| publisher.refused.lock().unwrap().len())
            .sum()
    }

    /// Messages that the slowest subscriber is behind.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let came = self.subscribers.iter();
        let came = came.map(|subscriber| subscriber.came.load(Ordering::Relaxed));
        self.acknowledged().saturating_sub(came.min().unwrap_or(0))
    }

    /// The retained number is not older than the last that was acknowledged before it was asked for.
    ///
    /// # Panics
    /// When it is.
    pub fn assert_retained(&self) {
        let least = self.retaining.answered.load(Ordering::SeqCst);
        if least == 0 {
            return;
        }
        let mut reader = Raw::connect(self.weather.broker(), &Connect::v311("glance"));
        reader.subscribe(4, self.retaining.name, 0);
        let (_, body) = reader.read().expect("the retained message");
        let topic = 2 + self.retaining.name.len();
        let text = std::str::from_utf8(&body[topic..]).unwrap();
        let number = text.trim_end_matches(" end").parse::<u64>().unwrap();
        assert!(number >= least, "retained {number}, acknowledged {least}");
    }
}
