//! Replicas of clusters.

use tenantry_domain::ClusterReplicaId;

use super::request::Call;
use super::{Client, ClientError};
use crate::{AddClusterReplica, ClusterRef, ClusterReplica, ListQuery, Page};

impl Client {
    /// `POST /v1/clusters/{cluster}/replicas`: registers a standby.
    pub async fn add_cluster_replica(
        &self,
        cluster: &ClusterRef,
        add: &AddClusterReplica,
    ) -> Result<ClusterReplica, ClientError> {
        self.send(Call::post(&[&"clusters", cluster, &"replicas"]).json(add)?).await
    }

    /// `GET /v1/clusters/{cluster}/replicas`: one page, oldest first.
    pub async fn list_cluster_replicas(
        &self,
        cluster: &ClusterRef,
        list: &ListQuery,
    ) -> Result<Page<ClusterReplica>, ClientError> {
        self.send(Call::get(&[&"clusters", cluster, &"replicas"]).query(list)?).await
    }

    /// `DELETE /v1/clusters/{cluster}/replicas/{replica}`: forgets it.
    pub async fn remove_cluster_replica(
        &self,
        cluster: &ClusterRef,
        replica: ClusterReplicaId,
    ) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"clusters", cluster, &"replicas", &replica])).await
    }
}
