// POST /api/pull, POST /api/copy and DELETE /api/delete. Private to the dialect.
//
// A pull is a job (api/native/jobs.h) that is watched: a client that leaves does not
// end it, and one that asks for the same model meanwhile watches the same job.
#pragma once

#include <string>

#include "api/routes.h"
#include "http/server.h"
#include "jobs/job.h"
#include "net/task.h"

namespace hearth::api::ollama {

net::Task<void> pull_model(Services& services, http::Exchange& exchange);
net::Task<void> copy_model(Services& services, http::Exchange& exchange);
net::Task<void> delete_model(Services& services, http::Exchange& exchange);

// What a job has to say as lines of Ollama's, each once.
class PullLines {
public:
    // Lines that are new since the last call; empty if nothing changed.
    [[nodiscard]] std::string next(jobs::Job const& job);

private:
    void status(std::string& out, std::string const& text);

    std::string last_;
    bool verified_ = false, written_ = false;
};

}  // namespace hearth::api::ollama
