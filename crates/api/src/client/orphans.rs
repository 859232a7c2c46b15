//! Orphans, and the doctor.

use tenantry_domain::OrphanId;

use super::request::Call;
use super::{Client, ClientError};
use crate::{ClusterRef, DoctorQuery, DoctorReport, ListOrphans, Orphan, Page};

impl Client {
    /// `GET /v1/orphans`: one page, the newest first.
    pub async fn list_orphans(&self, list: &ListOrphans) -> Result<Page<Orphan>, ClientError> {
        self.send(Call::get(&[&"orphans"]).query(list)?).await
    }

    /// `GET /v1/orphans/{orphan}`.
    pub async fn show_orphan(&self, orphan: OrphanId) -> Result<Orphan, ClientError> {
        self.send(Call::get(&[&"orphans", &orphan])).await
    }

    /// `POST /v1/orphans/scan`: asks for a look at every cluster at once.
    pub async fn scan_orphans(&self) -> Result<(), ClientError> {
        self.send_for_nothing(Call::post(&[&"orphans", &"scan"])).await
    }

    /// `POST /v1/orphans/{orphan}/remove`: removes one that is ours before its delay is over.
    pub async fn remove_orphan(&self, orphan: OrphanId) -> Result<Orphan, ClientError> {
        self.send(Call::post(&[&"orphans", &orphan, &"remove"])).await
    }

    /// `GET /v1/doctor`: one round of checks whether the catalog agrees with itself, nothing is stuck and the audit log is
    /// whole.
    pub async fn examine_catalog(&self, query: &DoctorQuery) -> Result<DoctorReport, ClientError> {
        self.send(Call::get(&[&"doctor"]).query(query)?).await
    }

    /// `GET /v1/clusters/{cluster}/doctor`: one round of checks whether a cluster agrees with the catalog.
    pub async fn examine_cluster(
        &self,
        cluster: &ClusterRef,
        query: &DoctorQuery,
    ) -> Result<DoctorReport, ClientError> {
        self.send(Call::get(&[&"clusters", cluster, &"doctor"]).query(query)?).await
    }
}
