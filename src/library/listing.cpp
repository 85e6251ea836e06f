// What models are listed by, and what is asked of the catalog for that and for pulls.
#include <algorithm>
#include <optional>
#include <utility>

#include "library/changes.h"
#include "library/library_impl.h"

namespace hearth::library {
namespace {

// What lists call it. What --model gave goes by that, whatever its file was pulled as.
std::vector<std::string> names_listed(Known const& known, std::vector<std::string> const& given) {
    if (!known.model) return {known.name};
    auto names = known.model->names();
    if (std::ranges::find(given, known.name) == given.end()) return names;
    if (names.front() == known.model->name) names.erase(names.begin());
    names.insert(names.begin(), known.name);
    return names;
}

}  // namespace

std::string name_meant(Known const& known, std::string_view name) {
    auto const alias = known.model ? alias_meant(*known.model, name) : std::nullopt;
    return alias.value_or(known.name);
}

std::vector<Known> Library::entries() const {
    std::vector<Known> out;
    for (auto& known : list()) {
        for (auto& name : names_listed(known, impl_->given)) {
            out.push_back(known);
            out.back().name = std::move(name);
        }
    }
    auto const others = std::ranges::find_if(out, [](Known const& known) { return !known.status; });
    std::ranges::sort(others, out.end(), {}, &Known::name);
    return out;
}

std::string Library::asked_as(Known const& known) const {
    auto const names = names_listed(known, impl_->given);
    auto const asked = impl_->last_names.find(known.status ? known.status->id : known.name);
    // It may have lost that name since.
    bool const has_it = asked != impl_->last_names.end() && std::ranges::find(names, asked->second) != names.end();
    return has_it ? asked->second : names.front();
}

void Library::Impl::let_go(std::string const& id) {
    last_names.erase(id);
    if (ours.erase(id) > 0) static_cast<void>(pool.remove(id));
}

// On a job's thread. Nothing where nobody can say: then it is fetched.
std::vector<std::string> Library::Impl::files_with(std::string const& sha256) const {
    std::vector<std::string> paths;
    static_cast<void>(keeper->run(
        [&](Keeper::Desk& desk) -> Status {
            HEARTH_TRY(auto* const catalog, desk.catalog());
            // Who knows a digest gets no model by it that may not be had by its name.
            auto const wanted = [this](catalog::Model const& model) {
                return permits.may_load(names_of(model)).has_value();
            };
            HEARTH_TRY(paths, catalog->files_with(sha256, wanted));
            return ok();
        },
        ending.get_token()));
    return paths;
}

}  // namespace hearth::library
