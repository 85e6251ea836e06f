// POST /api/pull and /api/push, POST /api/copy and DELETE /api/delete. Private to the
// dialect.
//
// A pull or push is a job (api/native/jobs.h) that is watched: a client that leaves does
// not end it, and one that asks for the same meanwhile watches the same job.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "api/routes.h"
#include "http/server.h"
#include "jobs/job.h"
#include "net/task.h"

namespace hearth::api::ollama {

net::Task<void> pull_model(Services& services, http::Exchange& exchange);
net::Task<void> push_model(Services& services, http::Exchange& exchange);
net::Task<void> copy_model(Services& services, http::Exchange& exchange);
net::Task<void> delete_model(Services& services, http::Exchange& exchange);

// Ollama's words for what a job does.
struct JobWords {
    std::string_view job;      // what it is called
    std::string_view opening;  // said first
    std::string_view moving;   // before a layer's digest
    std::string_view check;    // said before `closing`; empty: nothing is
    std::string_view closing;  // said before "success"
};
inline constexpr JobWords kPullWords{"pull", "pulling manifest", "pulling ", "verifying sha256 digest",
                                     "writing manifest"};
inline constexpr JobWords kPushWords{"push", "retrieving manifest", "pushing ", "", "pushing manifest"};

// What a job has to say as lines of Ollama's, each once.
//
// Every part of the job (a layer) has a line when it is whole, however fast that went;
// what is said of the whole comes behind the last of them.
class JobLines {
public:
    // `words` outlive it.
    explicit JobLines(JobWords const& words) : words_(words) {}

    // Lines that are new since the last call; empty if nothing changed.
    [[nodiscard]] std::string next(jobs::Job const& job);

private:
    void status(std::string& out, std::string_view text);
    void word(std::string& out, jobs::Progress const& progress);
    void parts(std::string& out, jobs::Job const& job);
    [[nodiscard]] std::string layer(jobs::Part const& part) const;

    JobWords const& words_;
    std::string last_;
    std::map<std::string, jobs::Part, std::less<>> told_;  // by name
    bool opened_ = false, checked_ = false, closed_ = false;
};

}  // namespace hearth::api::ollama
