//! The job's image: pulled where that is wanted, and what is known of it.

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Run, run_time::seconds};
use crate::{
    clock::WallTime,
    job::{Container, Pull},
    outcome::Failure,
    runtime::{Engine, Image, PullError, pull},
};

impl Run<'_> {
    pub(super) async fn get_image(&mut self, container: &Container) -> Result<(), Failure> {
        let image = &container.image;
        let failed = |source| Failure::from(PullError::Failed { image: image.clone(), source });
        let mut present = self.call(async |engine| engine.image(image).await, failed).await?;
        let wanted = match container.pull {
            Pull::Always => true,
            Pull::Missing => present.is_none(),
            Pull::Never if present.is_none() => return Err(Failure::ImageMissing { image: image.clone() }),
            Pull::Never => false,
        };
        if wanted {
            info!(image, "pulling the image");
            self.record.attempt.pull_started_at = Some(WallTime::now());
            let began = Instant::now();
            if let Engine::Docker(docker) = self.engine().await? {
                let waiting = self.waits.begin(format!("the image {image} to be pulled"));
                let pulled = pull(&docker, &self.metadata, image, self.config.pull_patience, &self.waits).await;
                drop(waiting);
                self.record.attempt.pull_s = Some(seconds(began.elapsed()));
                pulled?;
            }
            info!(image, "pulled the image in {:.1} s", began.elapsed().as_secs_f32());
            present = self.call(async |engine| engine.image(image).await, failed).await?;
        }
        self.note_image(present);
        Ok(())
    }

    pub(super) fn note_image(&mut self, image: Option<Image>) {
        let Image { digest, other_platform } = image.unwrap_or_default();
        self.record.attempt.image_digest = digest;
        if let Some(platform) = &other_platform {
            let fact = format!("the image is built for {platform}, which is not the VM's platform");
            warn!("{fact}");
            self.note(&fact);
        }
        self.record.attempt.other_platform = other_platform;
    }
}
