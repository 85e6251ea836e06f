#include "api/calls.h"

#include <algorithm>
#include <utility>

namespace hearth::api {

std::shared_ptr<CallList::Entry> CallList::enter(CallInfo info, std::weak_ptr<EventSource> source) {
    auto entry = std::make_unique<Entry>();
    entry->info = std::move(info);
    entry->source = std::move(source);
    auto const at = entries_.insert(entries_.end(), entry.get());
    return {entry.release(), [list = shared_from_this(), at](Entry* left) {
                list->entries_.erase(at);
                delete left;
            }};
}

void CallList::for_each(std::function<void(Entry const&)> const& visit) const {
    for (auto const* entry : entries_) visit(*entry);
}

CallList::Entry const* CallList::find(domain::RequestId generation) const {
    for (auto const* entry : entries_) {
        auto const& ids = entry->info.generations;
        if (std::ranges::find(ids, generation) != ids.end()) return entry;
    }
    return nullptr;
}

bool CallList::cancel(std::string_view id, std::string_view tenant) {
    // Cancelling may end a call and so change the list: first who, then what.
    std::vector<std::shared_ptr<EventSource>> sources;
    bool found = false;
    for (auto* entry : entries_) {
        auto const& info = entry->info;
        if (info.tenant != tenant || (info.request_id != id && info.answer_id != id)) continue;
        found = true;
        entry->progress.cancelled = true;
        if (auto source = entry->source.lock()) sources.push_back(std::move(source));
    }
    for (auto const& source : sources) source->cancel();
    return found;
}

}  // namespace hearth::api
