#include "library/puller.h"

#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

namespace hearth::library {

Puller::Puller(Network network, PullOrder order, Events events)
    : network_(std::move(network)), order_(std::move(order)), events_(std::move(events)) {}

Puller::~Puller() = default;

Result<fetch::Pulled> Puller::run() {
    // Copied where the file system does not link: that blocks, and nobody else is on this thread.
    if (auto const* local = std::get_if<fetch::LocalReference>(&order_.reference))
        return fetch::import_local(*local, order_.name, order_.folder);
    HEARTH_TRY(client_, fetch::Client::create(loop_, network_.client));
    downloader_ = std::make_unique<fetch::Downloader>(loop_, *client_, network_.download);
    loop_.spawn(pull());
    loop_.run();
    if (!result_) return Error(Code::cancelled, "stopped before anything was fetched");
    return std::move(*result_);
}

void Puller::stop() {
    loop_.post([this] {
        if (stopping_ || !planned_) loop_.stop();
        stopping_ = true;
        if (downloader_) downloader_->cancel_all();
    });
}

// What a branch names moves on; what is restored is what it named then.
fetch::HubReference Puller::at_noted_revision(fetch::HubReference reference) const {
    if (order_.restore && !order_.restore->revision.empty()) reference.revision = order_.restore->revision;
    return reference;
}

net::Task<Result<fetch::Plan>> Puller::plan() {
    if (auto const* hub = std::get_if<fetch::HubReference>(&order_.reference)) {
        // Where it came from does not say which of the repository's files were chosen then; what came does.
        auto again = order_.restore ? order_.restore->files : std::vector<fetch::NotedFile>();
        co_return co_await fetch::plan_hub(*client_, at_noted_revision(*hub), network_.hub, std::move(again));
    }
    if (auto const* registry = std::get_if<fetch::RegistryReference>(&order_.reference))
        co_return co_await fetch::plan_registry(*client_, *registry, network_.client.plain_http);
    co_return fetch::plan_url(std::get<fetch::UrlReference>(order_.reference));
}

// What somebody published of a file counts, whatever its source says by now.
Status Puller::expect(fetch::Plan& plan) const {
    if (order_.sha256.empty() || plan.files.size() != 1) return ok();
    auto& expected = plan.files.front().sha256;
    if (expected.empty()) expected = order_.sha256;
    if (expected == order_.sha256) return ok();
    return Error(Code::corrupt,
                 fmt::format("{} has another file than the list of known models says: SHA-256 {}, not {}", plan.source,
                             expected, order_.sha256));
}

net::Task<void> Puller::pull() {
    auto planned = co_await plan();
    if (planned && !order_.name.empty()) {
        auto const renamed = fetch::rename(*planned, order_.name);
        if (!renamed) planned = renamed.error();
    }
    if (planned) {
        auto const expected = expect(*planned);
        if (!expected) planned = expected.error();
    }
    if (planned && order_.restore) {
        auto const held = fetch::hold_to(*planned, *order_.restore);
        if (!held) planned = held.error();
    }
    if (planned) {
        planned_ = true;
        fetch::PullHooks hooks{events_.progress, [this] { return stopping_; }, order_.holdings, events_.planned};
        result_ = co_await fetch::pull(loop_, *downloader_, std::move(*planned), order_.folder, std::move(hooks));
    } else {
        result_ = planned.error();
    }
    loop_.stop();
}

}  // namespace hearth::library
