//! The balancer's own container, if it runs in one.

use std::{collections::HashMap, fs};

use bollard::{
    models::ContainerInspectResponse,
    query_parameters::{InspectContainerOptions, ListContainersOptions},
};
use ringmaster_core::fleet::message::EngineError;

use super::{DockerDriver, client::CallError, labels};

/// Length of a full container id.
const FULL_ID: usize = 64;
/// Length of the id that an engine gives a container as its hostname.
const SHORT_ID: usize = 12;

/// The container id in `/proc/self/mountinfo`: engines mount three files of a container's own
/// directory (`.../containers/<id>/hostname`) into it.
///
/// Only the *root* of these three mounts counts: on a host the mount points of every container
/// are listed too, and they name other containers.
pub(super) fn container_id(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let own_file = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&mount_point);
        let (_, rest) = root.split_once("containers/")?;
        let (id, _) = rest.split_once('/')?;
        (own_file && id.len() == FULL_ID && is_hex(id)).then_some(id)
    })
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The container id or name that this process may have. Only the engine can confirm it.
fn candidate() -> Option<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(id) = container_id(&mountinfo) {
        return Some(id.to_owned());
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let hostname = hostname.trim();
    (hostname.len() == SHORT_ID && is_hex(hostname)).then(|| hostname.to_owned())
}

impl DockerDriver {
    /// The container that this process runs in; `None` if it is none of this engine.
    pub(super) async fn own_container(
        &self,
    ) -> Result<Option<ContainerInspectResponse>, CallError> {
        let Some(candidate) = candidate() else {
            return Ok(None);
        };
        let found = self
            .connection
            .call("inspect", self.config.deadlines.ordinary, |client| async move {
                let options = None::<InspectContainerOptions>;
                client.inspect_container(&candidate, options).await.map(|own| (own, candidate))
            })
            .await;
        match found {
            // The candidate can also be the *name* of another container.
            Ok((own, candidate)) => {
                Ok(own.id.as_ref().is_some_and(|id| id.starts_with(&candidate)).then_some(own))
            }
            Err(error) if error.is_status(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of other running balancers of the same fleet: a second one must not start.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn other_balancers(&self) -> Result<Vec<String>, EngineError> {
        let own = self.own_container().await?.and_then(|own| own.id);
        let wanted = vec![
            format!("{}={}", labels::ROLE, labels::ROLE_BALANCER),
            format!("{}={}", labels::BALANCES, self.names.fleet()),
        ];
        let options = ListContainersOptions {
            filters: Some(HashMap::from([("label".to_owned(), wanted)])),
            ..Default::default()
        };
        let balancers = self
            .connection
            .call("list", self.config.deadlines.ordinary, |client| async move {
                client.list_containers(Some(options)).await
            })
            .await?;
        Ok(balancers
            .into_iter()
            .filter(|balancer| balancer.id != own)
            .map(|balancer| {
                let name = balancer.names.unwrap_or_default().into_iter().next();
                name.or(balancer.id).unwrap_or_default().trim_start_matches('/').to_owned()
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e0c5d8b5a4b6c9d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9001122334";

    #[test]
    fn the_id_is_read_from_the_mounts_of_its_own_files() {
        let inside = format!(
            "612 600 0:50 / / rw - overlay overlay rw\n\
             620 612 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw\n\
             621 612 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
        );
        assert_eq!(container_id(&inside), Some(ID));
        let moved = format!("9 8 0:1 /srv/engine/containers/{ID}/hosts /etc/hosts rw - ext4 x rw");
        assert_eq!(container_id(&moved), Some(ID));
        let podman = format!("9 8 0:1 /overlay-containers/{ID}/userdata/hosts /etc/hosts rw");
        assert_eq!(container_id(&podman), Some(ID));
    }

    #[test]
    fn mount_points_of_containers_on_a_host_are_ignored() {
        let host = format!(
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
             90 27 0:40 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n\
             91 27 254:0 /var/lib/docker/containers/{ID}/mounts /mnt/look rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(container_id(&host), None);
        for odd in ["", "1 2 3", "1 2 3 /containers/abc/hosts /etc/hosts", "1 2 3 /containers/"] {
            assert_eq!(container_id(odd), None, "{odd:?}");
        }
    }
}
