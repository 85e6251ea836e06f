// What is done to models on the keeper's thread: trust, copies, removals, names.
//
// Threads: the keeper's. Private to library.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "fetch/sources/pull.h"
#include "library/copies.h"
#include "library/keeper.h"
#include "library/pull_job.h"

namespace hearth::library {

// All a model goes by: for permits.
[[nodiscard]] std::vector<std::string> names_of(catalog::Model const& model);

// The alias that `name` is, if it is not the model's own name.
[[nodiscard]] std::optional<std::string> alias_meant(catalog::Model const& model, std::string_view name);

// What who asks for a model with another template is told.
[[nodiscard]] Error other_template(std::string const& name);

// Remembers the template at its first use. Fails with other_template() when it is another one by now.
[[nodiscard]] Status pin(Keeper::Desk& desk, catalog::Model const& model);

// The same of the model `id` that --model gave from elsewhere: `path` is what it was given as, `file` what is served.
[[nodiscard]] Status pin_file(Keeper::Desk& desk, std::string const& id, std::string const& path,
                              std::string const& file);
[[nodiscard]] Status confirm_file(Keeper::Desk& desk, std::string const& id, std::string const& path,
                                  std::string const& file);

// Whether the model is listed by that alias alone, so that it goes with it.
[[nodiscard]] bool is_last_name(catalog::Model const& model, std::string_view alias);
// Whether the model is listed by the name of its file and by others, which outlive that one.
[[nodiscard]] bool has_other_names(catalog::Model const& model);

struct CopyOrder {
    std::shared_ptr<catalog::Model const> model;
    std::string destination;
    std::shared_ptr<catalog::Model const> replaced;  // whose own name the destination is; null: nobody's
    std::optional<std::string> alias;                // another model's, which loses it
    std::shared_ptr<Copies> copies;                  // of its files, where they cannot be linked; else null
};
// Whether the copy is a model with files of its own; else it is a name.
[[nodiscard]] bool gets_own_files(CopyOrder const& order);
[[nodiscard]] Status copy_model(Keeper::Desk& desk, CopyOrder const& order);

// Whether its files may go for a copy of that name: not where they have other names as well.
[[nodiscard]] Status may_replace(catalog::Model const& model, std::string const& destination);

// Not allowed for models other programs keep.
[[nodiscard]] Status may_delete(catalog::Model const& model);
[[nodiscard]] Status delete_model(Keeper::Desk& desk, catalog::Model const& model);
// Of what was pulled the other names keep it then, and not that of its file.
// From now on the model is listed by its other names alone.
// REQUIRES: has_other_names(model)
[[nodiscard]] Status leave_to_others(Keeper::Desk& desk, catalog::Model const& model);
[[nodiscard]] Status remove_alias(Keeper::Desk& desk, catalog::Model const& model, std::string const& alias);

// name_pulled() of pull_job.h, where this process writes the catalog.
[[nodiscard]] Status name_at_desk(Keeper::Desk& desk, PullWish const& wish, fetch::Pulled const& pulled);

}  // namespace hearth::library
