//! Clusters.

use super::request::{Call, Tagged};
use super::{Client, ClientError};
use crate::{
    Cluster, ClusterPreview, ClusterRef, DrainPlan, DrainQuery, DryRunQuery, ListClusters, Page, RegisterCluster,
    UpdateCluster,
};

impl Client {
    /// `POST /v1/clusters`: registers a server.
    pub async fn register_cluster(&self, register: &RegisterCluster) -> Result<Cluster, ClientError> {
        self.send(Call::post(&[&"clusters"]).json(register)?).await
    }

    /// `POST /v1/clusters?dry_run=true`: what registering a server would come to.
    pub async fn preview_cluster(&self, register: &RegisterCluster) -> Result<ClusterPreview, ClientError> {
        let call = Call::post(&[&"clusters"]).query(&DryRunQuery { dry_run: true })?.repeatable();
        self.send(call.json(register)?).await
    }

    /// `GET /v1/clusters`: one page.
    pub async fn list_clusters(&self, list: &ListClusters) -> Result<Page<Cluster>, ClientError> {
        self.send(Call::get(&[&"clusters"]).query(list)?).await
    }

    /// `GET /v1/clusters/{cluster}`, with its version for a conditional update.
    pub async fn show_cluster(&self, cluster: &ClusterRef) -> Result<Tagged<Cluster>, ClientError> {
        self.send_tagged(Call::get(&[&"clusters", cluster])).await
    }

    /// `PATCH /v1/clusters/{cluster}`; with an etag only if the cluster has not changed since.
    pub async fn update_cluster(
        &self,
        cluster: &ClusterRef,
        update: &UpdateCluster,
        etag: Option<&str>,
    ) -> Result<Tagged<Cluster>, ClientError> {
        self.send_tagged(Call::patch(&[&"clusters", cluster]).json(update)?.if_match(etag)).await
    }

    /// `DELETE /v1/clusters/{cluster}`: forgets an empty cluster.
    pub async fn delete_cluster(&self, cluster: &ClusterRef) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"clusters", cluster])).await
    }

    /// `POST /v1/clusters/{cluster}/cordon`: no new homes.
    pub async fn cordon_cluster(&self, cluster: &ClusterRef) -> Result<Cluster, ClientError> {
        self.send(Call::post(&[&"clusters", cluster, &"cordon"])).await
    }

    /// `POST /v1/clusters/{cluster}/uncordon`: new homes again.
    pub async fn uncordon_cluster(&self, cluster: &ClusterRef) -> Result<Cluster, ClientError> {
        self.send(Call::post(&[&"clusters", cluster, &"uncordon"])).await
    }

    /// `POST /v1/clusters/{cluster}/drain`: no new homes, and a plan of where each tenant would go.
    pub async fn drain_cluster(&self, cluster: &ClusterRef, query: &DrainQuery) -> Result<DrainPlan, ClientError> {
        self.send(Call::post(&[&"clusters", cluster, &"drain"]).query(query)?).await
    }
}
