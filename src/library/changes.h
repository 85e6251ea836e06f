// What is done to models on the keeper's thread: trust, copies, removals, names.
//
// Threads: the keeper's. Private to library.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "fetch/sources/pull.h"
#include "library/keeper.h"
#include "library/pull_job.h"

namespace hearth::library {

// All a model goes by: for permits.
[[nodiscard]] std::vector<std::string> names_of(catalog::Model const& model);

// The alias that `name` is, if it is not the model's own name.
[[nodiscard]] std::optional<std::string> alias_meant(catalog::Model const& model, std::string_view name);

// Remembers the template at its first use. Fails with kTemplateChanged when it is another one by now.
[[nodiscard]] Status pin(Keeper::Desk& desk, catalog::Model const& model);

[[nodiscard]] Status copy_model(Keeper::Desk& desk, catalog::Model const& model, std::string const& destination);

// Not allowed for models other programs keep.
[[nodiscard]] Status may_delete(catalog::Model const& model);
[[nodiscard]] Status delete_model(Keeper::Desk& desk, catalog::Model const& model);
[[nodiscard]] Status remove_alias(Keeper::Desk& desk, std::string const& alias);

// The name under which it was asked for becomes one under which it is found.
[[nodiscard]] Status name_pulled(Keeper::Desk& desk, PullWish const& wish, fetch::Pulled const& pulled);

}  // namespace hearth::library
