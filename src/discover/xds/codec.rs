use super::messages::{DiscoveryRequest, DiscoveryResponse, Locality, Node, Status};
use bytes::Bytes;
use prost::Message;
use xds_client::{Error, XdsCodec};

/// Writes requests and reads responses.
#[derive(Debug)]
pub(super) struct Codec;

impl XdsCodec for Codec {
    fn encode_request(&self, request: &xds_client::DiscoveryRequest<'_>) -> Result<Bytes, Error> {
        let said = request.node;
        let locality = said.locality.clone().map(|said| {
            let xds_client::Locality { region, zone, sub_zone } = said;
            Locality { region, zone, sub_zone }
        });
        let node = Node {
            id: said.id.clone().unwrap_or_default(),
            cluster: said.cluster.clone().unwrap_or_default(),
            locality,
            user_agent_name: said.user_agent_name.clone(),
            user_agent_version: said.user_agent_version.clone(),
        };
        let status = |error: &xds_client::ErrorDetail| Status { code: error.code, message: error.message.clone() };
        let request = DiscoveryRequest {
            version_info: request.version_info.to_owned(),
            node: Some(node),
            resource_names: request.resource_names.to_vec(),
            type_url: request.type_url.to_owned(),
            response_nonce: request.response_nonce.to_owned(),
            error_detail: request.error_detail.as_ref().map(status),
        };
        Ok(request.encode_to_vec().into())
    }

    fn decode_response(&self, bytes: Bytes) -> Result<xds_client::DiscoveryResponse, Error> {
        let response = DiscoveryResponse::decode(bytes).map_err(|error| Error::Validation(error.to_string()))?;
        let resources = response.resources.into_iter();
        Ok(xds_client::DiscoveryResponse {
            version_info: response.version_info,
            resources: resources
                .map(|any| xds_client::ResourceAny { type_url: any.type_url, value: any.value })
                .collect(),
            type_url: response.type_url,
            nonce: response.nonce,
        })
    }
}
