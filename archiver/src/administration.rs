//! Does what an operator asks for, one request after the other, while the archiver goes on.

use std::sync::Arc;
use std::time::Duration;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::LogReader;
use sealpost_archive::storage::Directory;
use sealpost_core::Timestamp;
use tokio::sync::{Mutex, broadcast, mpsc::WeakUnboundedSender, oneshot};
use tokio_util::sync::CancellationToken;

use crate::control::answer::Answer;
use crate::control::request::Request;
use crate::health::Health;
use crate::holds::{Hold, HoldError, Holds, MAX_TEXT};
use crate::keeper::Job;
use crate::live::{Live, timestamp};
use crate::removal_plan::{self, Limits, PlanError, Retirable};
use crate::work::{NewRecord, Order, Work};
use crate::writer::Removal;

/// Why a retirement by the settings is recorded.
const BY_SETTINGS: &str = "keep_days and keep_bytes";

/// What a keeper has done, or failed to do.
#[derive(Debug, Clone)]
pub struct News {
    /// Of which log.
    pub log: LogName,
    /// What.
    pub job: Job,
    /// Why not yet; `None` if it is done.
    pub failed: Option<String>,
}

/// How long messages are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// How many days; `None` for ever.
    pub days: Option<u64>,
    /// How many bytes of segments; `None` for any number.
    pub bytes: Option<u64>,
}

/// Who does what an operator asks for.
#[derive(Debug)]
pub struct Administration {
    directory: Directory,
    work: WeakUnboundedSender<Work>,
    news: broadcast::Sender<News>,
    health: Arc<Health>,
    /// Held from the look at the holds to the record: a hold that was placed is never overtaken.
    turn: Mutex<()>,
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error("the archiver is stopping")]
    Stopping,
    #[error("{0}")]
    NotRecorded(String),
    #[error("it is recorded in the log, but not done yet: {0}. The archiver tries again by itself")]
    NotYet(String),
    #[error("a reason has from 1 to {MAX_TEXT} bytes")]
    Reason,
}

impl Administration {
    /// For the archive in `directory`, whose committer gets `work` and whose keepers give `news`.
    #[must_use]
    pub fn new(
        directory: Directory,
        work: WeakUnboundedSender<Work>,
        news: broadcast::Sender<News>,
        health: Arc<Health>,
    ) -> Administration {
        Administration {
            directory,
            work,
            news,
            health,
            turn: Mutex::new(()),
        }
    }

    /// Does what is asked for.
    pub async fn perform(&self, request: Request) -> Answer {
        match self.try_perform(request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let hint = match &refusal {
                    Refusal::Plan(PlanError::Held { .. }) => {
                        "`sealpost-archiver hold list` tells of it, `sealpost-archiver hold release` ends it"
                    }
                    _ => "",
                };
                Answer::failed(refusal, hint)
            }
        }
    }

    async fn try_perform(&self, request: Request) -> Result<Answer, Refusal> {
        if let Request::Status {} = request {
            return Ok(Answer::Status(Box::new(Live::from(self.health.facts()))));
        }
        let _turn = self.turn.lock().await;
        match request {
            Request::Status {} => Ok(Answer::Done {}),
            Request::Seal {} => {
                self.order(Order::Seal)?;
                Ok(Answer::Done {})
            }
            Request::Erase { log, seq, reason } => self.erase(log, seq, reason).await,
            Request::Retire { before, reason } => {
                let limits = Limits {
                    before: Some(before),
                    keep_bytes: None,
                };
                self.retire(limits, reason).await
            }
            Request::HoldAdd {
                name,
                from,
                until,
                users,
                reason,
            } => {
                let hold = Hold {
                    name,
                    from,
                    until,
                    users,
                    placed_at: timestamp(std::time::SystemTime::now()),
                    reason,
                };
                self.change_holds(|holds| {
                    tracing::info!(name = ?hold.name, "a hold is placed");
                    holds.add(hold)
                })
            }
            Request::HoldRelease { name } => self.change_holds(|holds| {
                tracing::info!(?name, "a hold is released");
                holds.release(&name).map(drop)
            }),
            Request::HoldList {} => Ok(Answer::Holds {
                holds: Holds::read(&self.directory)?.holds,
            }),
        }
    }

    /// Retires what is beyond the settings.
    pub async fn retain(&self, retention: Retention) {
        if retention == Retention::default() {
            return;
        }
        let _turn = self.turn.lock().await;
        let before = match self.age_limit(retention) {
            Ok(before) => before,
            Err(error) => {
                tracing::error!("cannot tell what is old: {error}");
                return;
            }
        };
        let limits = Limits {
            before,
            keep_bytes: retention.bytes,
        };
        if let Err(refusal) = self.retire(limits, BY_SETTINGS.to_owned()).await {
            tracing::error!("what is beyond keep_days or keep_bytes is not removed: {refusal}");
        }
    }

    /// Before when a line is too old. A clock that runs ahead makes nothing old as long as nothing was archived by it.
    fn age_limit(&self, retention: Retention) -> Result<Option<Timestamp>, PlanError> {
        let Some(days) = retention.days else {
            return Ok(None);
        };
        let reader = LogReader::open(&self.directory, LogName::EncryptedLogs)?;
        let Some((_, last)) = reader.last()? else {
            return Ok(None);
        };
        let now = timestamp(std::time::SystemTime::now()).min(last);
        let age = days.saturating_mul(86_400_000);
        Ok(now
            .millis()
            .checked_sub(age)
            .and_then(|millis| Timestamp::from_millis(millis).ok()))
    }

    async fn erase(&self, log: LogName, seq: u64, reason: String) -> Result<Answer, Refusal> {
        check(&reason)?;
        let directory = self.directory.clone();
        let erased = blocking(move || removal_plan::erasable(&directory, log, seq)).await?;
        let record = NewRecord::Erasure { erased, reason };
        match self.record(log, record).await? {
            Removal::Erasure { record, .. } => Ok(Answer::Erased { record }),
            Removal::Retirement { .. } => Ok(Answer::Done {}),
        }
    }

    async fn retire(&self, limits: Limits, reason: String) -> Result<Answer, Refusal> {
        check(&reason)?;
        let log = LogName::EncryptedLogs;
        let directory = self.directory.clone();
        let Retirable {
            until,
            segments,
            held,
        } = blocking(move || removal_plan::retirable(&directory, log, limits)).await?;
        if let Some(head) = until {
            self.record(log, NewRecord::Retirement { head, reason })
                .await?;
        }
        let (held, hold) = held.unzip();
        Ok(Answer::Retired {
            segments,
            until: until.map(|head| head.size),
            held,
            hold,
        })
    }

    fn change_holds(
        &self,
        change: impl FnOnce(&mut Holds) -> Result<(), HoldError>,
    ) -> Result<Answer, Refusal> {
        let mut holds = Holds::read(&self.directory)?;
        change(&mut holds)?;
        holds.write(&self.directory)?;
        Ok(Answer::Done {})
    }

    fn order(&self, order: Order) -> Result<(), Refusal> {
        let work = self.work.upgrade().ok_or(Refusal::Stopping)?;
        work.send(Work::Order(order)).map_err(|_| Refusal::Stopping)
    }

    /// Has a removal recorded, and waits until it is done.
    async fn record(&self, log: LogName, record: NewRecord) -> Result<Removal, Refusal> {
        let mut news = self.news.subscribe();
        let (reply, recorded) = oneshot::channel();
        self.order(Order::Record { log, record, reply })?;
        let removal = recorded
            .await
            .map_err(|_| Refusal::Stopping)?
            .map_err(Refusal::NotRecorded)?;
        loop {
            match news.recv().await {
                Ok(news) if news.log == log && news.job == Job::Remove(removal) => {
                    return match news.failed {
                        None => Ok(removal),
                        Some(reason) => Err(Refusal::NotYet(reason)),
                    };
                }
                // What it waits for is stuck.
                Ok(News {
                    failed: Some(reason),
                    log: of,
                    ..
                }) if of == log => return Err(Refusal::NotYet(reason)),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err(Refusal::Stopping),
            }
        }
    }
}

fn check(reason: &str) -> Result<(), Refusal> {
    if reason.is_empty() || reason.len() > MAX_TEXT {
        return Err(Refusal::Reason);
    }
    Ok(())
}

/// Runs what reads much where it holds nobody up.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, PlanError> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(read).await;
    Ok(done.map_err(|_| Refusal::Stopping)??)
}

/// How often it is looked whether something is beyond the limits.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Retires what is beyond the settings, at once and every hour, until `stop`.
pub async fn retain_now_and_then(
    administration: Arc<Administration>,
    retention: Retention,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_AGAIN);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => administration.retain(retention).await,
        }
    }
}
