-- Neovim's own client against `nnc lsp`, with the set-up that the repository offers: opens m.nn, makes
-- a mistake, asks for everything. Run by tool_lsp_test.cpp in a folder with m.nn and parts.nn.
local function check(condition, what)
  if not condition then
    print("failed: " .. what)
    vim.cmd("cquit 1")
  end
end

local function main()
  local here = debug.getinfo(1, "S").source:sub(2):match("^(.*)/tests/")
  vim.g.nn_path = os.getenv("NNC")
  dofile(here .. "/frontend/editor/neovim/nn.lua")
  vim.cmd("edit m.nn")
  local buffer = vim.api.nvim_get_current_buf()
  check(vim.bo[buffer].filetype == "nn", "filetype")
  check(vim.wait(120000, function() return #vim.lsp.buf_get_clients(buffer) > 0 end), "a client")

  local function ask(method, params)
    local answers = vim.lsp.buf_request_sync(buffer, method, params, 120000)
    check(answers and #answers > 0, method .. ": no answer")
    for _, answer in pairs(answers) do
      check(not answer.err, method .. ": " .. vim.inspect(answer.err))
      return answer.result
    end
  end
  local function at(pattern) -- the cursor goes to the first match
    vim.api.nvim_win_set_cursor(0, { 1, 0 })
    check(vim.fn.search(pattern, "c") > 0, "no " .. pattern)
    return vim.lsp.util.make_position_params()
  end

  local hover = ask("textDocument/hover", at("Dense(100"))
  check(hover.contents.value:find("gives `f32%[batch, 100%]`"), "hover: " .. vim.inspect(hover))
  local definition = ask("textDocument/definition", at("Dense(100"))
  check(definition.uri:find("layers_core.nn"), "definition")
  local hints = ask("textDocument/inlayHint", {
    textDocument = vim.lsp.util.make_text_document_params(),
    range = { start = { line = 0, character = 0 }, ["end"] = { line = 1000, character = 0 } },
  })
  check(#hints == 8, "hints: " .. #hints)

  -- A mistake shows, and goes away.
  local line = vim.fn.search("Dense(100", "c")
  local text = vim.fn.getline(line)
  vim.fn.setline(line, (text:gsub("Dense", "Dens")))
  check(vim.wait(120000, function() return #vim.diagnostic.get(buffer) == 1 end), "a message")
  check(vim.diagnostic.get(buffer)[1].message:find("did you mean `Dense`"), "its text")
  check(vim.diagnostic.get(buffer)[1].lnum == line - 1, "its line")
  vim.fn.setline(line, text)
  check(vim.wait(120000, function() return #vim.diagnostic.get(buffer) == 0 end), "no message")

  -- Completion, renaming and formatting change the text.
  local completion = ask("textDocument/completion", at("Block(300"))
  check(#(completion.items or completion) > 100, "completion")
  local rename = at("Block(300")
  rename.newName = "Pair"
  vim.lsp.util.apply_workspace_edit(ask("textDocument/rename", rename), "utf-16")
  check(vim.fn.search("layer Pair(units", "c") > 0 and vim.fn.search("|> Pair(300)", "c") > 0, "rename")
  vim.fn.setline(line, "    |>Dense( 100 ,activation=relu )")
  local edits = ask("textDocument/formatting", {
    textDocument = vim.lsp.util.make_text_document_params(),
    options = { tabSize = 2, insertSpaces = true },
  })
  vim.lsp.util.apply_text_edits(edits, buffer, "utf-16")
  check(vim.fn.search("^    |> Dense(100, activation = relu)$", "w") > 0, "format")
  print("all well")
end

local ok, why = pcall(main)
if not ok then
  print("failed: " .. tostring(why))
  vim.cmd("cquit 1")
end
vim.cmd("qall!")
