//! The commands.

mod agent;
mod backup;
mod change;
mod chat;
mod contacts;
mod daemon;
mod doctor;
mod files;
mod history;
mod invite;
mod keys;
mod listen;
mod outbox;
mod paper;
mod question;
mod send;
mod stdin_lines;
#[cfg(feature = "tui")]
mod tui;

use tokio_util::sync::CancellationToken;

use self::question::ask;
use crate::account::Account;
use crate::cli::{
    Cli, Command, ContactsCommand, FilesCommand, Global, HistoryArguments, HistoryCommand,
    KeysCommand, OutboxCommand,
};
use crate::clock;
use crate::event::Printer;
use crate::exit::{Code, Failure};
use crate::home::{Home, HomeLock};
use crate::keystore::KeystoreError;
use crate::passphrase;
use crate::reaching::become_receiver;
use crate::session::Manner;
use crate::settings::{Settings, Strangers, check_environment, process_environment};
use crate::store::Store;

/// What a command starts from.
struct Start {
    settings: Settings,
    home: Home,
    printer: Printer,
    /// Cancelled by Ctrl-C, SIGTERM or SIGHUP.
    stop: CancellationToken,
}

impl Start {
    /// Unlocks the keys. Asks for the passphrase if need be, and if no agent holds the key.
    fn unlock(&self) -> Result<Account, Failure> {
        let Settings { user, realm, .. } = &self.settings;
        if let Some(key) = crate::agent::key(self.home.path()) {
            match Account::open_with_key(&self.home, user, realm, key, clock::now()) {
                // Of a passphrase before this one.
                Err(KeystoreError::WrongPassphrase(_)) => {}
                opened => return self.by_settings(opened?),
            }
        }
        self.ask_and_unlock()
    }

    /// The same without an agent.
    fn ask_and_unlock(&self) -> Result<Account, Failure> {
        let Settings {
            user,
            realm,
            passphrase_command,
            ..
        } = &self.settings;
        let ask = || passphrase::existing(passphrase_command.as_deref(), user.as_str());
        let account = Account::open(&self.home, user, realm, ask, clock::now())?;
        self.by_settings(account)
    }

    fn by_settings(&self, account: Account) -> Result<Account, Failure> {
        let mut account = account
            .with_invitation(self.settings.invitation.clone())
            .with_rotation(self.settings.rotate_keys_after)
            .with_passphrase_command(self.settings.passphrase_command.clone())
            .with_broker_password_command(self.settings.broker_password_command.clone());
        account.upkeep(clock::now())?;
        Ok(account)
    }

    fn open_store(&self, account: &Account) -> Result<Store, Failure> {
        let mut store = Store::open(&self.home.store(), account.store_key())?;
        store.belongs_to(account.user());
        // What has outlived its time is not there any more for whatever runs.
        store.expire(clock::now())?;
        Ok(store.with_file_rules(self.settings.files.clone()))
    }

    /// For what a command says beside its session. Its remarks may go unread.
    fn another_printer(&self) -> Printer {
        let mut printer = Printer::standard(self.printer.is_json());
        printer.let_remarks_go();
        printer
    }

    /// Becomes the one who receives.
    async fn lock_receiving(&self) -> Result<HomeLock, Failure> {
        Ok(become_receiver(&self.home).await?)
    }

    /// How a session behaves by the settings.
    fn manner(&self) -> Manner {
        Manner {
            receipts: self.settings.receipts,
            trust: self.settings.trust,
            strangers: self.settings.strangers.unwrap_or(Strangers::Accept),
            ..Manner::default()
        }
    }
}

/// Runs what the command line asks for. `started` is called when passphrases have been asked for: before, a signal
/// ends the program at once; from then on it cancels `stop`.
pub async fn run(
    cli: Cli,
    stop: CancellationToken,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let Some(command) = cli.command else {
        return Box::pin(without_a_command(cli.global, stop, started)).await;
    };
    do_command(cli.global, command, stop, started).await
}

/// The chat, as the terminal lets it.
async fn without_a_command(
    global: Global,
    stop: CancellationToken,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    #[cfg(feature = "tui")]
    if tui::is_possible(&global) {
        check_environment()?;
        return tui::run(global, stop, started).await;
    }
    do_command(global, Command::Chat, stop, started).await
}

async fn do_command(
    global: Global,
    command: Command,
    stop: CancellationToken,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    if let Some(paper) = command.paper() {
        return unless_nobody_reads(paper::run(paper));
    }
    check_environment()?;
    // It makes the home of a user whom only the backup names.
    if let Command::Restore(arguments) = &command {
        return backup::restore(&global, arguments, &stop, started);
    }
    let settings = Settings::load(&global, &process_environment)?;
    if matches!(command, Command::Doctor) {
        let printer = Printer::standard(global.json);
        return unless_nobody_reads(doctor::run(settings, printer, started).await);
    }
    // Only making keys makes a home: a slip in a name leaves nothing behind.
    let init = matches!(
        command,
        Command::Keys {
            command: KeysCommand::Init { .. }
        }
    );
    if !init && !settings.home.exists() {
        return Err(KeystoreError::Missing(settings.home).into());
    }
    let home = Home::open(&settings.home)?;
    let mut start = Start {
        settings,
        home,
        printer: Printer::standard(global.json),
        stop,
    };
    // What these do is more than printing: that nobody reads their remarks must not stop them half-way.
    let works = matches!(
        command,
        Command::Send(_)
            | Command::Edit(_)
            | Command::Delete(_)
            | Command::Expire(_)
            | Command::Chat
            | Command::Daemon { .. }
            | Command::Backup { .. }
            | Command::Files {
                command: Some(FilesCommand::Save { .. }),
            }
            | Command::Keys {
                command: KeysCommand::Init { .. }
                    | KeysCommand::Rotate { .. }
                    | KeysCommand::Revoke { .. }
                    | KeysCommand::Passphrase { .. }
            }
    );
    if works {
        start.printer.let_remarks_go();
    }
    let prints = matches!(
        command,
        Command::Listen(_)
            | Command::Keys {
                command: KeysCommand::Show
            }
            | Command::Invite
            | Command::History(HistoryArguments {
                command: None | Some(HistoryCommand::Export { .. }),
                ..
            })
            | Command::Contacts {
                command: None | Some(ContactsCommand::List)
            }
            | Command::Outbox {
                command: None | Some(OutboxCommand::List)
            }
            | Command::Files {
                command: None | Some(FilesCommand::List)
            }
    );
    let ended = match command {
        Command::Send(errand) => send::run(start, errand, started).await,
        Command::Edit(errand) => change::edit(start, errand, started).await,
        Command::Delete(errand) => change::delete(start, errand, started).await,
        Command::Expire(errand) => change::expire(start, errand, started).await,
        Command::Listen(wish) => listen::run(start, wish, started).await,
        Command::Daemon { socket } => daemon::run(start, socket, started).await,
        Command::Chat => chat::run(start, started).await,
        Command::Keys { command } => keys::run(start, command, started).await,
        Command::Agent {
            time,
            foreground,
            command,
        } => agent::run(start, time, foreground, command, started).await,
        Command::Invite => invite::invite(start),
        Command::Add { link } => invite::add(start, &link),
        Command::Outbox { command } => outbox::run(start, command),
        Command::Files { command } => files::run(start, command, started).await,
        Command::History(arguments) => history::run(start, arguments, started),
        Command::Contacts { command } => contacts::run(start, command),
        Command::Backup {
            file,
            backup_passphrase_command,
        } => backup::make(start, &file, backup_passphrase_command.as_deref(), started),
        // Done above.
        Command::Doctor
        | Command::Restore(_)
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(()),
    };
    match prints {
        true => unless_nobody_reads(ended),
        false => ended,
    }
}

/// What does nothing but print is done when nobody reads any more, as in `sealpost listen | head -1`.
fn unless_nobody_reads(ended: Result<(), Failure>) -> Result<(), Failure> {
    match ended {
        Err(failure) if failure.reader_gone => Ok(()),
        ended => ended,
    }
}

/// A user name from the command line.
fn parse_user(name: &str) -> Result<sealpost_core::UserId, Failure> {
    sealpost_core::UserId::parse(name).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{:?} is not a user name: {error}", crate::terminal::clean_line(name)),
            "A user name has a-z, 0-9, _ and -, starts with a letter or digit, and is at most 64 long.",
        )
    })
}
