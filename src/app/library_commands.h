// Commands about models that a running server does, if there is one.
//
// Threads: one. Private to app.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "app/commands.h"
#include "app/server_client.h"
#include "base/result.h"
#include "catalog/catalog.h"

namespace hearth::app {

// The server to ask: that of `host`, which must answer (`unavailable`), or the usual one
// if it answers. Nothing: this process does it itself, as it must where `here`; then `host`
// is `invalid_argument`.
[[nodiscard]] Result<std::optional<ServerClient>> server_for(std::string const& host, bool here);

// Whether the flags are about this process's own folders.
[[nodiscard]] bool is_local(CatalogFlags const& flags);

// What a server answered that does not do it.
[[nodiscard]] Error error_of(ServerAnswer const& answer);

// Whether a job in that state has ended.
[[nodiscard]] bool is_over(std::string_view job_state);

// The exit code for what a server answered, which is said where it is an error.
int report_answer(ServerAnswer const& answer);

// As report(), but what cannot be reached has an exit code of its own.
int report_client(Error const& error);

// Opened and scanned; as it was last recorded when another process writes it.
[[nodiscard]] Result<std::unique_ptr<catalog::Catalog>> open_catalog(CatalogFlags const& flags);

// The server reads the model whole; it is watched to its end. Fails with why it is not as it
// should be, or could not be read; and as ServerClient.
[[nodiscard]] Status verify_by(ServerClient const& server, std::string const& model);
// Its chat template is accepted as it is now.
[[nodiscard]] Status trust_by(ServerClient const& server, std::string const& model);

// A pull as a job of the server, watched until it has ended; shown and reported as one of this
// process, but for --json, which prints the job: paths of the server's disk are its own affair.
// Ctrl-C ends the watching.
[[nodiscard]] int pull_by(ServerClient const& server, PullFlags const& flags);

}  // namespace hearth::app
