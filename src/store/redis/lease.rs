//! The lease in the store.

use redis::cmd;

use super::{
    RedisStore,
    answer::{number_of, texts, version_of},
    scripts,
};
use crate::roles::{
    ids::{Fence, Holder, ProcessId},
    lease::{Ask, Reply, Request, Stored},
};

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
        let answer = match self.call(&command).await {
            Ok(answer) => answer,
            Err(error) => {
                if let super::StoreError::Refused(why) = error {
                    self.complain("lease", Some(why));
                }
                return Reply::Failed;
            }
        };
        self.complain("lease", None);
        reply_of(&texts(answer)).unwrap_or(Reply::Failed)
    }
}

fn reply_of(fields: &[Option<Vec<u8>>]) -> Option<Reply> {
    let field = |at: usize| fields.get(at).and_then(Option::as_deref);
    let text = |at: usize| std::str::from_utf8(field(at)?).ok();
    Some(match text(0)? {
        "granted" => Reply::Granted { fence: Fence(number_of(field(1))?) },
        "renewed" => Reply::Renewed {
            stored: Stored {
                state: version_of(field(1), field(2)),
                table: version_of(field(3), field(4)),
            },
        },
        "refused" => {
            let holder = text(2).filter(|id| !id.is_empty()).map(|id| Holder {
                id: ProcessId(id.into()),
                admin: text(3).unwrap_or_default().into(),
            });
            Reply::Refused { by: holder, fence: Fence(number_of(field(1))?) }
        }
        _ => return None,
    })
}
