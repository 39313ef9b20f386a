//! The lease in the store.

use redis::cmd;
use ringmaster_core::roles::{
    ids::{Holder, ProcessId},
    lease::{Ask, Reply, Request, Stored},
};

use super::{
    RedisStore,
    answer::{fence_of, texts, version_of},
    scripts,
};
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn ask_for_lease(&self, who: &Holder, request: &Request) -> Reply {
        let (ask, fence) = match request.ask {
            Ask::Acquire { at_least } => ("acquire", at_least),
            Ask::Renew { fence } => ("renew", fence),
            Ask::Release { fence } => ("release", fence),
        };
        let keys = &self.0.keys;
        let ttl = u64::try_from(self.0.ttl.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("EVAL");
        command.arg(scripts::LEASE).arg(5);
        command.arg(&keys.lease).arg(&keys.fence).arg(&keys.state).arg(&keys.table);
        command.arg(&keys.quiet);
        command.arg(ask).arg(fence.0).arg(ttl).arg(&*who.id.0).arg(&*who.admin);
        command.arg(request.id.0).arg(&keys.tables);
        command.arg(who.authenticator.as_deref().unwrap_or_default());
        let answer = match self.call("lease", &command).await {
            Ok(answer) => answer,
            Err(error) => {
                if let StoreError::Refused(why) = error {
                    self.complain("lease", Some(why));
                }
                return Reply::Failed;
            }
        };
        self.complain("lease", None);
        reply_of(&texts(answer)).unwrap_or(Reply::Failed)
    }

    pub(super) async fn read_holder(&self) -> Result<Option<Holder>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(&self.0.keys.lease).arg(&["id", "admin", "authenticator"]);
        let fields = texts(self.call("lease", &command).await?);
        Ok(holder_of(&fields, 0).filter(|holder| !holder.admin.is_empty()))
    }
}

/// A field of an answer that is a text, and not an empty one.
fn text_at(fields: &[Option<Vec<u8>>], at: usize) -> Option<&str> {
    let text = std::str::from_utf8(fields.get(at)?.as_deref()?).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// Process, admin address and proof, from a place on.
fn holder_of(fields: &[Option<Vec<u8>>], at: usize) -> Option<Holder> {
    Some(Holder {
        id: ProcessId(text_at(fields, at)?.into()),
        admin: text_at(fields, at + 1).unwrap_or_default().into(),
        authenticator: text_at(fields, at + 2).map(Into::into),
    })
}

fn reply_of(fields: &[Option<Vec<u8>>]) -> Option<Reply> {
    let field = |at: usize| fields.get(at).and_then(Option::as_deref);
    Some(match text_at(fields, 0)? {
        "granted" => Reply::Granted { fence: fence_of(field(1))? },
        "renewed" => Reply::Renewed {
            stored: Stored {
                state: version_of(field(1), field(2)),
                table: version_of(field(3), field(4)),
            },
        },
        "refused" => Reply::Refused { by: holder_of(fields, 2), fence: fence_of(field(1))? },
        _ => return None,
    })
}
