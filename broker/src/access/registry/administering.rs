//! What the operator does to users.

use std::io;

use sealpost_core::{Timestamp, UserId};

use super::{BundleTurn, Invited, Record, Registry, Standing};
use crate::access::password::PasswordHash;

/// Why a user could not be administered.
#[derive(Debug, thiserror::Error)]
pub enum AdministerError {
    /// Nobody has that name.
    #[error("there is no user {0}")]
    Unknown(UserId),
    /// The name is kept for the system.
    #[error("the name {0} is reserved")]
    Reserved(UserId),
    /// The name was removed.
    #[error("{0} was removed; the name stays reserved")]
    Removed(UserId),
    /// The name is bound to an identity already.
    #[error("{0} is registered already")]
    Registered(UserId),
    /// There are as many users as the broker takes.
    #[error("the broker has as many users as it takes")]
    Full,
    /// The disk did not take it.
    #[error("the broker cannot write to its disk: {0}")]
    Disk(io::Error),
}

impl Registry {
    /// Offers a name that is not bound to whoever holds an invitation. An earlier invitation to it is void.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn invite(
        &self,
        user: &UserId,
        invited: Invited,
        now: Timestamp,
    ) -> Result<(), AdministerError> {
        let _turn = self.writing.lock().await;
        let record = self.takeable(user, now)?;
        if record.identity.is_some() {
            return Err(AdministerError::Registered(user.clone()));
        }
        let record = Record {
            invitation: Some(invited),
            ..record
        };
        self.write(user, record)
            .await
            .map_err(AdministerError::Disk)
    }

    /// Sets or removes the static password of a user. A free name is taken with it, without an identity.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn set_password(
        &self,
        user: &UserId,
        password: Option<PasswordHash>,
        now: Timestamp,
    ) -> Result<(), AdministerError> {
        let _turn = self.writing.lock().await;
        let record = match password {
            Some(_) => self.takeable(user, now)?,
            None => self.living(user)?,
        };
        let record = Record {
            used: record.used || password.is_some(),
            password,
            ..record
        };
        self.write(user, record)
            .await
            .map_err(AdministerError::Disk)
    }

    /// Takes a name without an identity: for a device that signs in with a certificate.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn hold(&self, user: &UserId, now: Timestamp) -> Result<(), AdministerError> {
        let _turn = self.writing.lock().await;
        let record = self.takeable(user, now)?;
        if record.used {
            return Err(AdministerError::Registered(user.clone()));
        }
        let record = Record {
            used: true,
            ..record
        };
        self.write(user, record)
            .await
            .map_err(AdministerError::Disk)
    }

    /// Says whether a user may act.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn set_enabled(&self, user: &UserId, enabled: bool) -> Result<(), AdministerError> {
        let _turn = self.writing.lock().await;
        let record = self.living(user)?;
        let standing = if enabled {
            Standing::Active
        } else {
            Standing::Disabled
        };
        self.write(user, Record { standing, ..record })
            .await
            .map_err(AdministerError::Disk)
    }

    /// Removes a user. The name stays reserved, unless it was only offered and nobody ever had it. Keep the turn until the
    /// bundle is withdrawn in the one order.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn remove(&self, user: &UserId) -> Result<BundleTurn, AdministerError> {
        let turn = self.turn().await;
        let record = self.living(user)?;
        let removed = if record.used {
            self.write(user, record.tombstone()).await
        } else {
            self.erase(user).await
        };
        removed.map_err(AdministerError::Disk)?;
        Ok(turn)
    }

    /// Unbinds a name from its identity and offers it to whoever holds the invitation. The password goes too: whoever has
    /// the old identity may have it. Keep the turn until the bundle is withdrawn in the one order.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn reset_identity(
        &self,
        user: &UserId,
        invited: Invited,
    ) -> Result<BundleTurn, AdministerError> {
        let turn = self.turn().await;
        let record = self.living(user)?;
        let record = Record {
            identity: None,
            invitation: Some(invited),
            password: None,
            bundle: None,
            seq: 0,
            ..record
        };
        self.write(user, record)
            .await
            .map_err(AdministerError::Disk)?;
        Ok(turn)
    }

    /// The record of somebody who was not removed.
    fn living(&self, user: &UserId) -> Result<Record, AdministerError> {
        match self.record(user) {
            None => Err(AdministerError::Unknown(user.clone())),
            Some(record) if record.standing == Standing::Removed => {
                Err(AdministerError::Removed(user.clone()))
            }
            Some(record) => Ok(record),
        }
    }

    /// The record of somebody who was not removed, or a new one if the name can be taken.
    fn takeable(&self, user: &UserId, now: Timestamp) -> Result<Record, AdministerError> {
        if user.is_reserved() {
            return Err(AdministerError::Reserved(user.clone()));
        }
        match self.living(user) {
            Err(AdministerError::Unknown(_)) if self.is_full() => Err(AdministerError::Full),
            Err(AdministerError::Unknown(_)) => Ok(Record::new(now)),
            known => known,
        }
    }
}
