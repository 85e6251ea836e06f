#include "fetch/sources/plan.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "fetch/sources/claim.h"
#include "fetch/sources/hub_files.h"
#include "fetch/sources/note.h"
#include "names/names.h"

namespace hearth::fetch {

Result<Plan> plan_url(UrlReference const& reference) {
    Plan plan;
    PlannedFile file;
    file.name = reference.url.file_name();
    file.url = reference.url;
    if (!is_file_name(file.name))
        return Error(Code::invalid_argument,
                     fmt::format("{} ends in no name for a file; give one: NAME --source URL",
                                 reference.url.text_without_query()),
                     "name");
    plan.model = gguf_stem(file.name);
    plan.source = to_string(Reference(reference));
    plan.files.push_back(std::move(file));
    return plan;
}

Status rename(Plan& plan, std::string const& name) {
    bool const with_path = name.find('/') != std::string::npos;
    auto const file_stem = names::to_file_stem(name);
    if (!is_file_name(file_stem) || (with_path && !names::parse_model_name(name)))
        return Error(Code::invalid_argument,
                     fmt::format("'{}' is no name for a model: [HOST/][NAMESPACE/]MODEL[:TAG], or a file's name with "
                                 "no dot in front and at most 200 bytes",
                                 name),
                     "name");
    auto const stem = gguf_stem(file_stem);
    for (auto& file : plan.files) {
        auto const slash = file.name.find('/');
        if (slash != std::string::npos) {
            file.name = stem + file.name.substr(slash);
        } else {
            auto const dot = file.name.rfind('.');
            auto const ending = dot == std::string::npos ? std::string(".gguf") : file.name.substr(dot);
            file.name = fmt::format("{}{}{}", stem, split_suffix(file.name), ending);
        }
    }
    plan.model = names::from_file_stem(stem);
    plan.other_name.clear();
    return ok();
}

void make_way(Plan& plan, std::string const& folder) {
    auto const note = plan.other_name.empty() ? std::nullopt : read_note(folder, plan.model);
    if (!note || note->source == plan.source) return;
    auto const is_same = [&](PlannedFile const& file) {
        auto const* const noted = note->find(file.name);
        return noted != nullptr && !file.sha256.empty() && noted->sha256 == file.sha256;
    };
    if (std::ranges::all_of(plan.files, is_same) && !is_claimed(folder, plan.model)) return;
    // One that is no name for a file changes nothing: then the pull says what is in its way.
    auto const other_name = plan.other_name;
    static_cast<void>(rename(plan, other_name));
}

}  // namespace hearth::fetch
