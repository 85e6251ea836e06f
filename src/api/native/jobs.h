// /api/v1/jobs: work that goes on behind the requests, and outlives the server.
#pragma once

#include "api/json_writer.h"
#include "api/routes.h"
#include "http/server.h"
#include "jobs/job.h"
#include "net/task.h"

namespace hearth::api::native {

// GET /api/v1/jobs: newest first, those that `state` and `kind` name, `limit` of them, before `before`
net::Task<void> list_jobs(Services& services, http::Exchange& exchange);

// GET /api/v1/jobs/{id}
net::Task<void> show_job(Services& services, http::Exchange& exchange);

// GET /api/v1/jobs/{id}/events: the job at every change, until it has ended
net::Task<void> stream_job(Services& services, http::Exchange& exchange);

// POST /api/v1/jobs/{id}/pause, resume, cancel, retry: the job after it
net::Task<void> pause_job(Services& services, http::Exchange& exchange);
net::Task<void> resume_job(Services& services, http::Exchange& exchange);
net::Task<void> cancel_job(Services& services, http::Exchange& exchange);
net::Task<void> retry_job(Services& services, http::Exchange& exchange);

void write_job(JsonWriter& json, jobs::Job const& job);

}  // namespace hearth::api::native
