//! `sealpost edit`, `delete` and `expire`: what becomes of messages that were sent.

use sealpost_core::{Content, MessageId, UserId};

use super::send::{self, Parcel, carry_out};
use super::{Start, parse_user};
use crate::cli::{DeleteArguments, EditArguments, ExpireArguments, Input, Waiting};
use crate::clock;
use crate::conversation::{
    self, ChangeError, DELETION_WARNING, LIFETIME_WARNING, Named, parse_lifetime,
};
use crate::event::{Event, lifetime_words};
use crate::exit::{Code, Failure};
use crate::store::Store;

pub(super) async fn edit(
    mut start: Start,
    arguments: EditArguments,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let account = start.unlock()?;
    let text = send::content(&arguments.text, Input::Text, &mut start.printer)?;
    let store = start.open_store(&account)?;
    let named = which(&store, &arguments.which, None)?;
    let text = text.text().unwrap_or_default().to_owned();
    let content = conversation::edit(&store, &named, text)?;
    let parcel = parcel(named.partner, content, arguments.waiting);
    carry_out(start, account, store, parcel, started).await
}

pub(super) async fn delete(
    mut start: Start,
    arguments: DeleteArguments,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let account = start.unlock()?;
    let mut store = start.open_store(&account)?;
    let with = arguments.with.as_deref().map(parse_user).transpose()?;
    let named = which(&store, &arguments.which, with.as_ref())?;
    if arguments.here {
        conversation::erase_here(&mut store, &named)?;
        start
            .printer
            .note("sealpost: removed here; nobody is told")?;
        return Ok(());
    }
    match conversation::delete(&mut store, &named)? {
        None => {
            start
                .printer
                .note("sealpost: deleted before it left this machine")?;
            Ok(())
        }
        Some(content) => {
            start.printer.note(&format!(
                "sealpost: {} is asked to delete it. {DELETION_WARNING}",
                named.partner
            ))?;
            let parcel = parcel(named.partner, content, arguments.waiting);
            carry_out(start, account, store, parcel, started).await
        }
    }
}

pub(super) async fn expire(
    mut start: Start,
    arguments: ExpireArguments,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let with = parse_user(&arguments.with)?;
    // What is wrong with the words is said before a passphrase is asked for.
    let lifetime = arguments
        .time
        .as_deref()
        .map(parse_lifetime)
        .transpose()
        .map_err(|problem| Failure::new(Code::Usage, "that is no such time", problem))?;
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let Some(lifetime) = lifetime else {
        let how = Event::conversation(&store.conversation(&with)?);
        start.printer.print(&how)?;
        return Ok(());
    };
    let content = conversation::set_lifetime(&store, &with, lifetime, clock::now())?;
    start.printer.note(&match lifetime {
        Some(lifetime) => format!(
            "sealpost: messages that you and {with} exchange from now on disappear after {}. {LIFETIME_WARNING}",
            lifetime_words(lifetime)
        ),
        None => format!("sealpost: messages that you and {with} exchange from now on stay"),
    })?;
    let parcel = parcel(with, content, arguments.waiting);
    carry_out(start, account, store, parcel, started).await
}

fn parcel(to: UserId, content: Content, waiting: Waiting) -> Parcel {
    Parcel {
        file: None,
        to,
        content: Some(content),
        input: Input::Text,
        waiting,
    }
}

/// The message of that id, or our last one to that user.
pub(super) fn which(store: &Store, word: &str, with: Option<&UserId>) -> Result<Named, Failure> {
    if let Ok(id) = MessageId::parse(word) {
        return Ok(conversation::by_id(store, &id, with)?);
    }
    let user = parse_user(word)?;
    Ok(conversation::last(store, &user, true)?.ok_or(ChangeError::NotHere)?)
}

pub(super) fn parse_id(id: &str) -> Result<MessageId, Failure> {
    MessageId::parse(id).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!(
                "{:?} is not a message's id: {error}",
                crate::terminal::clean_line(id)
            ),
            "Ids are those of: sealpost history --json",
        )
    })
}
