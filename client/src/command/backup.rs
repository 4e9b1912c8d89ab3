//! `sealpost backup` and `sealpost restore`: the whole account as one file, and a home out of it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::Start;
use crate::backup::{
    self, BackupError, Destination, MAX_SETTINGS, Manifest, RestoreError, SettingsFile,
};
use crate::cli::{Global, RestoreArguments};
use crate::clock;
use crate::event::{Event, Printer, Time};
use crate::exit::{Code, Failure};
use crate::new_file::NewFile;
use crate::passphrase::{self, Passphrase, PassphraseError};
use crate::settings::{Settings, process_environment};

/// What stands for standard input or output.
const STANDARD: &str = "-";

pub(super) fn make(
    mut start: Start,
    path: &Path,
    passphrase_command: Option<&str>,
    started: impl FnOnce(),
) -> Result<(), Failure> {
    let to_stdout = path == Path::new(STANDARD);
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::new(
            Code::Usage,
            "a backup is nothing to look at",
            "Give a file's name, or send it on: sealpost backup - | ssh host 'cat > alice.age'",
        ));
    }
    // What is wrong with the name is said before anything is asked.
    let file = match to_stdout {
        true => None,
        false => Some(NewFile::create(path)?),
    };
    let account = start.unlock()?;
    let store = start.open_store(&account)?;
    let passphrase = asked(passphrase::for_backup(passphrase_command))?;
    started();
    let settings = settings_file(&start)?;
    let now = clock::now();
    let stop = start.stop.clone();
    let is_stopped = move || stop.is_cancelled();
    let write = |out: &mut dyn Write| {
        let settings = settings.as_ref();
        backup::write(
            &account,
            &store,
            settings,
            &passphrase,
            out,
            now,
            &is_stopped,
        )
    };
    match file {
        None => write(&mut BufWriter::new(io::stdout().lock()))?,
        Some(mut file) => {
            let written = write(&mut BufWriter::new(&mut file));
            match written {
                Err(BackupError::Write(source)) => return Err(file.failed(source).into()),
                written => written?,
            }
            file.finish()?;
        }
    }
    let event = Event::Backup {
        user: account.user().to_string(),
        realm: account.realm().to_string(),
        file: path.display().to_string(),
        created: Time(now),
        messages: store.count_messages()?,
    };
    match to_stdout {
        // Standard output has the backup.
        true => Printer::standard(false).print(&event)?,
        false => start.printer.print(&event)?,
    }
    Ok(())
}

/// The settings that the command runs with, if they come from a file.
fn settings_file(start: &Start) -> Result<Option<SettingsFile>, Failure> {
    let Some(path) = &start.settings.file else {
        return Ok(None);
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SETTINGS).read_to_end(&mut text))
        .map_err(|source| crate::home::HomeError::Io {
            path: path.clone(),
            source,
        })?;
    let path = path.clone();
    Ok(Some(SettingsFile { path, text }))
}

pub(super) fn restore(
    global: &Global,
    arguments: &RestoreArguments,
    stop: &CancellationToken,
    started: impl FnOnce(),
) -> Result<(), Failure> {
    let mut printer = Printer::standard(global.json);
    let input: Box<dyn Read> = match arguments.file == Path::new(STANDARD) {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(&arguments.file).map_err(RestoreError::Read)?),
    };
    let command = arguments.backup_passphrase_command.as_deref();
    let passphrase = asked(passphrase::of_backup(command))?;
    let mut home = None;
    let choose = |manifest: &Manifest| -> Result<Destination, Failure> {
        let chosen = match arguments.check {
            true => Destination::Nothing,
            false => {
                let settings = settings_for(global, manifest)?;
                home = Some(settings.home.clone());
                let passphrase = new_passphrase(&settings, arguments.no_passphrase)?;
                Destination::Home(settings.home, passphrase)
            }
        };
        started();
        Ok(chosen)
    };
    let input = BufReader::new(input);
    let is_stopped = || stop.is_cancelled();
    let restored = backup::restore(input, &passphrase, choose, clock::now(), &is_stopped)?;
    let Manifest {
        user,
        realm,
        created,
    } = restored.manifest;
    let (user, realm) = (user.to_string(), realm.to_string());
    let Some(home) = home else {
        printer.print(&Event::Backup {
            user,
            realm,
            file: arguments.file.display().to_string(),
            created: Time(created),
            messages: restored.messages,
        })?;
        return Ok(());
    };
    // It is done: that nobody reads it changes nothing.
    printer.let_remarks_go();
    printer.print(&Event::Restored {
        user,
        realm,
        home: home.display().to_string(),
        created: Time(created),
        messages: restored.messages,
        fingerprint: restored.identity.fingerprint(),
    })?;
    printer.note(
        "sealpost: use it in one place only: two homes of one user take the connection from each other, and each lacks what the other \
         received. What arrived after the backup is not in it.",
    )?;
    if restored.settings {
        printer.note(&format!(
            "sealpost: the settings of then are in {}",
            home.join("client.toml").display()
        ))?;
    }
    Ok(())
}

/// The settings of whom the backup belongs to.
fn settings_for(global: &Global, manifest: &Manifest) -> Result<Settings, Failure> {
    let same =
        |given: &Option<String>, theirs: &str| given.as_ref().is_none_or(|given| given == theirs);
    let (user, realm) = (manifest.user.as_str(), manifest.realm.as_str());
    if !same(&global.user, user) || !same(&global.realm, realm) {
        return Err(Failure::new(
            Code::Usage,
            format!("this is a backup of {user} in realm {realm}"),
            "Leave out --user and --realm: the backup knows them. Nothing was restored.",
        ));
    }
    let global = Global {
        user: Some(user.to_owned()),
        realm: Some(realm.to_owned()),
        ..global.clone()
    };
    Ok(Settings::load(&global, &process_environment)?)
}

fn new_passphrase(settings: &Settings, no_passphrase: bool) -> Result<Option<Passphrase>, Failure> {
    // Before a person thinks of a new passphrase.
    if settings
        .home
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(RestoreError::Exists(settings.home.clone()).into());
    }
    if no_passphrase {
        return Ok(None);
    }
    let command = settings.passphrase_command.as_deref();
    Ok(Some(passphrase::fresh(command, settings.user.as_str())?))
}

/// Whoever cannot ask is told of the backup's own flag.
fn asked(passphrase: Result<Passphrase, PassphraseError>) -> Result<Passphrase, Failure> {
    passphrase.map_err(|error| {
        let hint = match &error {
            PassphraseError::NoTerminal | PassphraseError::Terminal(_) => {
                "Give --backup-passphrase-command CMD."
            }
            PassphraseError::Empty => "A backup needs one: it holds your keys.",
            _ => return error.into(),
        };
        Failure::new(Code::Failed, error.to_string(), hint)
    })
}
