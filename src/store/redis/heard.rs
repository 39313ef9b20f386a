//! What others let be known, as it is published.

use tokio::sync::mpsc;

use super::{
    RedisStore,
    connection::Published,
    wire::{self, ReportNews, TableNews},
};
use crate::store::Heard;

impl RedisStore {
    /// Reads what was published, until one side is gone. What waits is bounded by both channels.
    pub(super) async fn pass_on(
        self,
        mut raw: mpsc::Receiver<Published>,
        sender: mpsc::Sender<Heard>,
    ) {
        loop {
            let published = tokio::select! {
                published = raw.recv() => published,
                () = sender.closed() => return,
            };
            let Some(published) = published else { return };
            let heard = match published {
                Published::Subscribed => Some(Heard::Listening),
                Published::Lost => Some(Heard::Lost),
                Published::Message { channel, payload } => self.understand(&channel, &payload),
            };
            let Some(heard) = heard else { continue };
            if sender.send(heard).await.is_err() {
                return;
            }
        }
    }

    fn understand(&self, channel: &str, payload: &[u8]) -> Option<Heard> {
        if channel == self.0.keys.tables {
            if payload == b"free" {
                return Some(Heard::LeaseFree);
            }
            return Some(match wire::read_news(payload) {
                Ok(TableNews::Changed(delta)) => Heard::Changed(Box::new(delta)),
                Ok(TableNews::Newer) => Heard::Newer,
                Err(why) => {
                    self.complain("news of tables", Some(why));
                    Heard::Newer
                }
            });
        }
        match wire::read_report(payload) {
            Ok(ReportNews::Reported(report, failed)) => {
                Some(Heard::Reported(Box::new(report), failed))
            }
            Ok(ReportNews::Gone(balancer)) => Some(Heard::Gone(balancer)),
            Err(why) => {
                self.complain("reports", Some(why));
                None
            }
        }
    }
}
