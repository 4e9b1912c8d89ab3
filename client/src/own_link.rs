//! Our own contact link: what we give to people who are to know us without asking a broker.

use sealpost_core::ContactLink;
use sealpost_mqtt::Route;

use crate::account::Account;
use crate::event::Event;
use crate::exit::{Code, Failure};

/// The event that tells it, with the first of several brokers: a link has room for one.
///
/// # Errors
/// When the broker's address is too long for it.
pub fn own_link(account: &Account, broker: &Route) -> Result<Event, Failure> {
    let identity = account.identity_key();
    let broker = broker.brokers().next();
    let broker = broker.map(ToString::to_string).unwrap_or_default();
    let (realm, user) = (account.realm().clone(), account.user().clone());
    let link = ContactLink::new(realm, user, identity, &broker).map_err(|_| {
        Failure::new(
            Code::Usage,
            "the broker's address is too long for a link",
            "Give --broker with a shorter name.",
        )
    })?;
    Ok(Event::ContactLink {
        user: account.user().to_string(),
        realm: account.realm().to_string(),
        broker,
        fingerprint: identity.fingerprint(),
        link: link.to_string(),
    })
}
