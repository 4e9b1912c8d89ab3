//! The broker as it is seen from outside, from its first moment to its last.

use std::sync::{Arc, OnceLock};

use sealpost_service::Observed;

use super::exposition::Exposition;
use super::pulse::Pulse;
use crate::broker::Broker;
use crate::lifetime::{Lifetime, Phase};

/// What is told, and of whom.
#[derive(Debug)]
pub struct Observer {
    life: Arc<Lifetime>,
    running: OnceLock<(Exposition, Pulse)>,
}

impl Observer {
    /// Of a broker that starts.
    #[must_use]
    pub fn new(life: Arc<Lifetime>) -> Observer {
        Observer {
            life,
            running: OnceLock::new(),
        }
    }

    /// From now on there is something to tell.
    pub fn observe(&self, broker: &Arc<Broker>) {
        let _ = self
            .running
            .set((Exposition::of(broker), Pulse::of(Arc::clone(broker))));
    }
}

impl Observed for Observer {
    async fn feel(&self) -> Result<(), String> {
        match self.running.get() {
            Some((_, pulse)) => pulse.feel().await.map_err(|sick| sick.to_string()),
            None => Ok(()),
        }
    }

    fn is_ready(&self) -> (bool, String) {
        let phase = self.life.phase();
        (phase == Phase::Ready, phase.word().to_owned())
    }

    fn metrics(&self) -> Option<String> {
        let (exposition, _) = self.running.get()?;
        exposition.text().ok()
    }
}
