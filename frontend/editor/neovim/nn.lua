-- Neovim (0.7 or later): `require("nn")` with this file in ~/.config/nvim/lua/, or `:luafile nn.lua`.
-- Starts `nnc lsp` (vim.g.nn_path: another path of the compiler) for every .nn file.
vim.api.nvim_create_autocmd({ "BufRead", "BufNewFile" }, {
  pattern = "*.nn",
  callback = function(args)
    vim.bo[args.buf].filetype = "nn"
    vim.bo[args.buf].commentstring = "# %s"
    vim.bo[args.buf].shiftwidth = 2
    vim.bo[args.buf].expandtab = true
    local id = vim.g.nn_client
    if not id or not vim.lsp.get_client_by_id(id) then
      id = vim.lsp.start_client({
        name = "nn",
        cmd = { vim.g.nn_path or "nnc", "lsp" },
        root_dir = vim.fn.getcwd(),
      })
      vim.g.nn_client = id
    end
    vim.lsp.buf_attach_client(args.buf, id)
  end,
})
