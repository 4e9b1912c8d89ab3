//! Which broker a command administers: the running one, through its control socket, or the files of one that does not run.

use std::time::Duration;

use tokio::sync::mpsc;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::access::audit::Audit;
use crate::access::registry::{OpenError, Registry};
use crate::control::administration::Administration;
use crate::control::answer::{Item, UserLine};
use crate::control::caller::{CallError, Caller};
use crate::control::request::Request;
use crate::settings::Settings;

/// Items of an answer that wait to be handed on.
const ITEMS: usize = 16;

/// What is administered.
pub(super) struct Target {
    settings: Settings,
    /// Held, with the data directory's lock, until the command ends.
    files: Option<Administration>,
}

impl Target {
    /// Reads the settings that say where the broker's data are.
    pub(super) fn find(global: GlobalArguments) -> Result<Target, Failure> {
        let (file, overrides) = global.into_overrides();
        Ok(Target {
            settings: Settings::load(file, overrides)?,
            files: None,
        })
    }

    /// Has a request done, and hands on what comes.
    pub(super) fn ask(&mut self, request: &Request, item: impl FnMut(Item)) -> Result<(), Failure> {
        let data = &self.settings.data;
        if self.files.is_none() {
            let connected = Caller::connect(data).map_err(CallError::Io)?;
            if let Some(caller) = connected {
                return Ok(caller.ask(request, item)?);
            }
            if !data.exists() {
                return Err(self.no_broker());
            }
        }
        self.do_on_files(request, item)
    }

    /// Has the running broker end, and returns when it has.
    pub(super) fn see_off(&self, within: Duration, item: impl FnMut(Item)) -> Result<(), Failure> {
        let connected = Caller::connect(&self.settings.data).map_err(CallError::Io)?;
        let caller = connected.ok_or_else(|| self.no_broker())?;
        Ok(caller.see_off(within, item)?)
    }

    fn no_broker(&self) -> Failure {
        let data = &self.settings.data;
        let message = if data.exists() {
            format!("no broker runs on {data:?}")
        } else {
            format!("there is no broker at {data:?}")
        };
        let hint = "name its data directory with --data, or its settings with --config";
        Failure::new(Code::Failed, message, hint)
    }

    /// Asks for all users, page by page, and hands each on.
    pub(super) fn each_user(
        &mut self,
        mut user: impl FnMut(UserLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let mut page = Vec::new();
            self.ask(&Request::Users { after }, |item| {
                if let Item::User(line) = item {
                    page.push(line);
                }
            })?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.user.clone());
            page.into_iter().try_for_each(&mut user)?;
        }
    }

    fn do_on_files(
        &mut self,
        request: &Request,
        mut item: impl FnMut(Item),
    ) -> Result<(), Failure> {
        let files = match self.files.take() {
            Some(files) => files,
            None => self.open()?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}"), ""))?;
        let (items, mut ready) = mpsc::channel(ITEMS);
        let performed = runtime.block_on(async {
            let listen = async {
                while let Some(value) = ready.recv().await {
                    item(value);
                }
            };
            let (performed, ()) = tokio::join!(files.perform(request.clone(), items), listen);
            files.finish().await;
            performed
        });
        self.files = Some(files);
        performed.map_err(|failed| Failure::new(Code::Failed, failed.message, failed.hint))
    }

    fn open(&self) -> Result<Administration, Failure> {
        let Settings {
            data,
            realm,
            limits,
            audit,
            ..
        } = &self.settings;
        let registry =
            Registry::open(data, realm.clone(), limits.users).map_err(|error| match error {
                OpenError::InUse(_) => Failure::new(
                    Code::Failed,
                    format!("a broker uses {data:?} and does not answer at its control socket"),
                    "it may be starting or ending: try again in a moment",
                ),
                error => Failure::new(Code::Failed, error, "look at that path"),
            })?;
        let audit = match audit {
            None => Audit::off(),
            Some(file) => Audit::open(file.clone()).map_err(|error| {
                Failure::new(
                    Code::Failed,
                    format!("the audit log {:?}: {error}", file.path),
                    "nothing was changed; what is done to users has to leave a trace",
                )
            })?,
        };
        Ok(Administration::of_files(registry, audit))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let message = error.to_string();
        match error {
            CallError::Refused { message, hint } => Failure::new(Code::Failed, message, hint),
            CallError::TookTooLong(_) => Failure::new(
                Code::Failed,
                message,
                "it goes on ending: wait for longer with --timeout; a second SIGTERM cuts its notice short",
            ),
            CallError::Io(_) => Failure::new(
                Code::Failed,
                message,
                "run this as the user that the broker runs as, or as root",
            ),
            CallError::NotAnAnswer(_) => Failure::new(
                Code::Failed,
                message,
                "this program and the running broker may be of different versions",
            ),
        }
    }
}
