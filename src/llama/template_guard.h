// Guards for upstream's Jinja engine: limits it does not have itself.
//
// Before parsing: nesting and length of expressions, because its parser and
// interpreter recurse. After parsing: a counting statement is put into every
// loop body and around every macro body of the tree, so that a template from a
// hostile file can neither run for ever nor exhaust the stack.
//
// Private to the module.
#pragma once

#include <jinja/lexer.h>
#include <jinja/runtime.h>

#include "base/result.h"

namespace hearth::llama {

// Fails with `unsupported`, quoting the limit passed.
[[nodiscard]] Status check_template_shape(jinja::lexer_result const& tokens);

// REQUIRES: called once per program, before it runs
void insert_template_guards(jinja::program& program);

// The budget of the renderings on this thread while it lives.
class TemplateBudget {
public:
    TemplateBudget();
    ~TemplateBudget();
    TemplateBudget(TemplateBudget const&) = delete;
    TemplateBudget& operator=(TemplateBudget const&) = delete;
};

// range() with at most kTemplateIterationsMax elements; the built-in has no limit.
[[nodiscard]] jinja::value bounded_range();

}  // namespace hearth::llama
