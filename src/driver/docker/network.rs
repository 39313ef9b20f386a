//! The fleet's network: made when it is missing, joined by the balancer, with its address ranges.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use bollard::{
    models::{
        ContainerInspectResponse, EndpointSettings, NetworkConnectRequest, NetworkCreateRequest,
        NetworkInspect,
    },
    query_parameters::{InspectNetworkOptions, ListNetworksOptions},
};

use super::{DockerDriver, client::CallError, labels};

/// Address ranges of the fleet's network and of the others that the balancer's own container is on.
/// They distinguish a request of a container from one that comes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetNetwork {
    /// An address in each subnet, and the length of the prefix.
    pub subnets: Vec<(IpAddr, u8)>,
    /// The engine's own addresses. A request through a published port comes from one of them.
    pub gateways: Vec<IpAddr>,
}

impl FleetNetwork {
    /// Whether an address may be a replica's: it is in a subnet and is no gateway.
    pub fn may_be_replica(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        !self.gateways.contains(&peer) && self.subnets.iter().any(|subnet| within(*subnet, peer))
    }

    fn read(network: &NetworkInspect) -> Self {
        let mut read = Self::default();
        let config = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
        for range in config.into_iter().flatten() {
            read.subnets.extend(range.subnet.as_deref().and_then(parse_subnet));
            // An IPv6 gateway may have a prefix length.
            let gateway = range.gateway.as_deref().unwrap_or_default();
            let address = gateway.split('/').next().unwrap_or_default();
            read.gateways.extend(address.parse::<IpAddr>().ok());
        }
        read
    }

    /// Adds a network that the balancer's own container is on, as its endpoint describes it.
    fn with(mut self, endpoint: &EndpointSettings) -> Self {
        let known = |address: &Option<String>| address.as_deref()?.parse::<IpAddr>().ok();
        let ranges = [
            (&endpoint.ip_address, endpoint.ip_prefix_len),
            (&endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len),
        ];
        for (address, length) in ranges {
            let length = length.and_then(|length| u8::try_from(length).ok());
            let subnet = known(address).zip(length).filter(|(_, length)| *length > 0);
            self.subnets.extend(subnet.filter(|subnet| !self.subnets.contains(subnet)));
        }
        self.gateways
            .extend([&endpoint.gateway, &endpoint.ipv6_gateway].into_iter().filter_map(known));
        self
    }
}

fn parse_subnet(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (length <= longest).then_some((address, length))
}

fn within((net, length): (IpAddr, u8), peer: IpAddr) -> bool {
    let (net, peer, width) = match (net, peer) {
        (IpAddr::V4(net), IpAddr::V4(peer)) => {
            (u128::from(net.to_bits()), u128::from(peer.to_bits()), 32_u32)
        }
        (IpAddr::V6(net), IpAddr::V6(peer)) => (net.to_bits(), peer.to_bits(), 128),
        _ => return false,
    };
    let host_bits = width.saturating_sub(u32::from(length));
    let shift = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
    shift(net) == shift(peer)
}

impl DockerDriver {
    /// Makes the network if it is missing, joins it, and reads its address ranges.
    pub(super) async fn prepare_network(&self) -> Result<(), CallError> {
        let network = self.ensure_network().await?;
        let own = self.own_container().await;
        self.store_ranges(&network, own.as_ref().ok().and_then(Option::as_ref));
        match own? {
            Some(own) => self.join_network(own).await,
            None => Ok(()),
        }
    }

    /// Reads the address ranges again: the balancer's own container may have joined other networks,
    /// and the fleet's may have been replaced by another one of the same name, when two balancers
    /// made it at the same time.
    pub(super) async fn refresh_ranges(&self) -> Result<(), CallError> {
        let own = self.own_container().await?;
        if let Some(network) = self.find_network().await? {
            self.store_ranges(&network, own.as_ref());
        }
        Ok(())
    }

    fn store_ranges(&self, network: &NetworkInspect, own: Option<&ContainerInspectResponse>) {
        let settings = own.and_then(|own| own.network_settings.as_ref());
        let endpoints = settings.and_then(|settings| settings.networks.as_ref());
        let others = endpoints.into_iter().flatten().filter(|(name, _)| **name != self.network);
        let ranges = FleetNetwork::read(network);
        let ranges = others.fold(ranges, |ranges, (_, endpoint)| ranges.with(endpoint));
        self.fleet_network.store(Some(Arc::new(ranges)));
    }

    /// Finds the network, or makes it; one caller at a time, because engines before 25 make a second
    /// network of the same name without an error.
    pub(super) async fn ensure_network(&self) -> Result<NetworkInspect, CallError> {
        let _turn = self.network_turn.lock().await;
        if let Some(network) = self.find_network().await? {
            return Ok(network);
        }
        let request = NetworkCreateRequest {
            name: self.network.clone(),
            driver: Some("bridge".into()),
            labels: Some(HashMap::from([(
                labels::FLEET.to_owned(),
                self.names.fleet().to_owned(),
            )])),
            ..Default::default()
        };
        let created = self
            .connection
            .call("create network", self.config.deadlines.create, |client| async move {
                client.create_network(request).await
            })
            .await;
        match created {
            Ok(_) => {
                tracing::info!(network = self.network, "network created");
                self.remove_twins().await?;
            }
            Err(error) if error.is_status(409) => {}
            Err(error) => return Err(error),
        }
        self.find_network().await?.ok_or_else(|| CallError::Refused {
            status: 404,
            message: format!("network {} is gone again", self.network).into(),
        })
    }

    /// Of several networks with the same name the oldest stays; younger ones with the fleet's label
    /// are removed. Every balancer decides the same, so their order does not matter.
    async fn remove_twins(&self) -> Result<(), CallError> {
        let deadline = self.config.deadlines.ordinary;
        let options = ListNetworksOptions {
            filters: Some(HashMap::from([("name".to_owned(), vec![self.network.clone()])])),
        };
        let mut twins = self
            .connection
            .call("list networks", deadline, |client| async move {
                client.list_networks(Some(options)).await
            })
            .await?;
        twins.retain(|network| network.name.as_ref() == Some(&self.network));
        twins.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        for twin in twins.into_iter().skip(1) {
            let ours = twin.labels.is_some_and(|labels| self.names.owns(&labels));
            let (true, Some(id)) = (ours, twin.id) else {
                continue;
            };
            let removed = self
                .connection
                .call("remove network", deadline, |client| async move {
                    client.remove_network(&id).await
                })
                .await;
            match removed {
                Err(error) if !error.is_status(404) => return Err(error),
                _ => tracing::info!(network = self.network, "a twin of the network removed"),
            }
        }
        Ok(())
    }

    pub(super) async fn find_network(&self) -> Result<Option<NetworkInspect>, CallError> {
        let mut found = self.inspect_network().await;
        if found.as_ref().is_err_and(|e| e.text().contains("ambiguous")) {
            self.remove_twins().await?;
            found = self.inspect_network().await;
        }
        match found {
            // The engine also finds a network by the beginning of its id.
            Ok(network) if network.name.as_ref() == Some(&self.network) => Ok(Some(network)),
            Ok(_) => Ok(None),
            Err(error) if error.is_status(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn inspect_network(&self) -> Result<NetworkInspect, CallError> {
        self.connection
            .call("inspect network", self.config.deadlines.ordinary, |client| async move {
                let options = None::<InspectNetworkOptions>;
                client.inspect_network(&self.network, options).await
            })
            .await
    }

    /// Connects the balancer's own container to the network, unless it is connected.
    async fn join_network(&self, own: ContainerInspectResponse) -> Result<(), CallError> {
        let on_host = own
            .host_config
            .and_then(|config| config.network_mode)
            .is_some_and(|mode| mode == "host");
        let networks =
            own.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        // A container on the host's network reaches every bridge, and cannot join one.
        if on_host || networks.contains_key(&self.network) {
            return Ok(());
        }
        let request =
            NetworkConnectRequest { container: own.id.unwrap_or_default(), endpoint_config: None };
        let joined = self
            .connection
            .call("connect network", self.config.deadlines.create, |client| async move {
                client.connect_network(&self.network, request).await
            })
            .await;
        match joined {
            Ok(()) => {
                tracing::info!(network = self.network, "joined the fleet's network");
                Ok(())
            }
            Err(error) if error.text().contains("already exists in network") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network() -> FleetNetwork {
        FleetNetwork {
            subnets: ["172.18.0.0/16", "fd00:1::/64"]
                .map(|text| parse_subnet(text).unwrap())
                .into(),
            gateways: vec![ip("172.18.0.1"), ip("fd00:1::1")],
        }
    }

    #[test]
    fn replicas_are_in_the_subnet_and_gateways_are_not_replicas() {
        for replica in ["172.18.0.2", "172.18.255.254", "fd00:1::7", "::ffff:172.18.0.2"] {
            assert!(network().may_be_replica(ip(replica)), "{replica}");
        }
        for guest in
            ["172.18.0.1", "::ffff:172.18.0.1", "172.19.0.2", "127.0.0.1", "fd00:1::1", "fd00:2::7"]
        {
            assert!(!network().may_be_replica(ip(guest)), "{guest}");
        }
    }

    #[test]
    fn other_networks_of_our_own_container_count_but_for_their_gateways() {
        let endpoint = |address: &str, length, gateway: &str| EndpointSettings {
            ip_address: Some(address.into()),
            ip_prefix_len: Some(length),
            gateway: Some(gateway.into()),
            ..Default::default()
        };
        let six = EndpointSettings {
            global_ipv6_address: Some("fd00:9::5".into()),
            global_ipv6_prefix_len: Some(64),
            ipv6_gateway: Some("fd00:9::1".into()),
            ..endpoint("192.168.80.3", 20, "192.168.80.1")
        };
        let ranges = network().with(&six);
        for container in ["172.18.0.2", "192.168.80.2", "192.168.95.254", "fd00:9::7"] {
            assert!(ranges.may_be_replica(ip(container)), "{container}");
        }
        for guest in ["192.168.80.1", "192.168.96.1", "fd00:9::1", "172.18.0.1", "10.0.0.1"] {
            assert!(!ranges.may_be_replica(ip(guest)), "{guest}");
        }
        // The host's network has no subnet. A prefix of length 0 would contain every address.
        for nothing in
            [endpoint("", 0, ""), endpoint("0.0.0.0", 0, ""), EndpointSettings::default()]
        {
            assert_eq!(network().with(&nothing), network());
        }
    }

    #[test]
    fn subnets_are_read_with_care() {
        assert_eq!(parse_subnet("10.0.0.0/8"), Some((ip("10.0.0.0"), 8)));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/", "::/129"] {
            assert_eq!(parse_subnet(bad), None, "{bad}");
        }
        assert!(within((ip("0.0.0.0"), 0), ip("9.9.9.9")));
        assert!(within((ip("::"), 0), ip("fd00::1")));
    }
}
