-- A batch on its way in, see `binding`.

local known, batch = {}, {} -- records of jobs that were there before; jobs that are new, by id
local entering = {}         -- those of the batch that are let in, in their order
local touching = {}         -- jobs that were there before and change
