// The billing line that some agents put first into their system prompt:
//
//   x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch=a5145;You are ...
//
// It is addressed to one vendor's accounting and changes with every request
// (cch) and conversation (the end of cc_version), which would leave nothing of
// a long prompt to be shared. Private to the dialect.
#pragma once

#include <string>

namespace hearth::api::openai {

// Puts zeros, one per character, where the line at the beginning of `text`
// changes between requests. Any other text stays as it is.
void settle_billing_line(std::string& text);

}  // namespace hearth::api::openai
