// Trust in the chat templates of models that are in the pool already, because --model gave them or
// they came along with another one; that of others is looked at before they get there.
#include <fmt/format.h>

#include "library/changes.h"
#include "library/library_impl.h"

namespace hearth::library {

// Nothing is asked of the disk for one that was looked at before.
net::Task<Status> Library::Impl::trusted(serving::ModelStatus status) {
    // One that came along with another one is used for the first time.
    if (auto const opened = ours.find(status.id); opened != ours.end()) {
        if (opened->second.pinned) co_return ok();
        auto const first = [model = opened->second.model](Keeper::Desk& desk) -> Result<bool> {
            HEARTH_CHECK(pin(desk, *model));
            return true;
        };
        auto const pinned = co_await ask<bool>(first);
        if (auto const now = ours.find(status.id); pinned && now != ours.end()) now->second.pinned = true;
        co_return to_status(pinned);
    }
    auto const id = status.base.empty() ? status.id : status.base;
    auto const host = status.base.empty() ? Result<serving::ModelStatus>(status) : pool.status(id);
    if (!host || !given_files.contains(id)) co_return ok();
    auto const model = behind(id);
    auto const path = origin_of(*host);
    auto const seen = model ? path + '\n' + model->template_sha256 : path;
    bool const changed = model && model->template_changed();
    if (auto const before = vouched.find(id); !changed && before != vouched.end() && before->second == seen)
        co_return ok();
    auto const work = [model, id, path, file = host->path](Keeper::Desk& desk) -> Result<bool> {
        // Without a catalog nothing is remembered, and what was named is served.
        if (!desk.catalog()) return true;
        HEARTH_CHECK(model ? pin(desk, *model) : pin_file(desk, id, path, file));
        return true;
    };
    auto const done = co_await ask<bool>(work);
    if (done) vouched[id] = seen;
    co_return to_status(done);
}

net::Task<Status> Library::Impl::trust_given(serving::ModelStatus status) {
    auto const work = [id = status.id, path = origin_of(status),
                       file = status.path](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_CHECK(confirm_file(desk, id, path, file));
        return true;
    };
    auto const done = co_await ask<bool>(work);
    co_return to_status(done);
}

}  // namespace hearth::library
